import { randomBytes } from 'node:crypto';
import { codeFrom, pskOf, writeCode, type EnrolCode } from '@sallyport/protocol/enrolment.ts';
import type { Transaction } from '../store/database.ts';
import type { Actor, Records } from './records.ts';

type Invitation = {
  products: readonly string[];
  /** What the device is to be called; without it, what it calls itself. */
  name?: string | undefined;
  email?: string | undefined;
  validMs: number;
};

const MOST_ATTEMPTS = 5;

// A desktop whose answer was lost asks again and is given the same one, for as long as this after the code has expired.
const KEPT_MS = 24 * 3_600_000;

/** Invites one device: the code is shown once, here, and cannot be had again. */
export async function invite(records: Records, invitation: Invitation, by: Actor) {
  for (let attempts = 1; ; attempts++) {
    const code = codeFrom(randomBytes(16));
    const expiresAt = await records.database.write((tx) => addInvite(tx, records, code, invitation, by));
    if (expiresAt !== undefined) return { code: writeCode(code), expiresAt };
    // There are a million ids; so many misses in a row mean that nearly all are taken.
    if (attempts === MOST_ATTEMPTS) throw new Error('no free id for an invitation was found');
  }
}

/**
 * Opens the invitation of a code that an operator has chosen, for clouds without a shell. Once: a restart neither renews
 * it nor brings back a code that was used.
 */
export async function openFirstInvite(
  records: Records,
  code: EnrolCode,
  products: readonly string[],
): Promise<boolean> {
  return records.database.write(async (tx) => {
    const device = await tx.selectFrom('devices').select('id').limit(1).executeTakeFirst();
    if (device !== undefined) return false;
    const expiresAt = await addInvite(
      tx,
      records,
      code,
      { products, validMs: KEPT_MS },
      { actor: 'SALLYPORT_FIRST_INVITE' },
    );
    return expiresAt !== undefined;
  });
}

/** When the invitation ends, or nothing when its id is taken. */
async function addInvite(
  tx: Transaction,
  { envelope, audit, now }: Records,
  code: EnrolCode,
  { products, name, email, validMs }: Invitation,
  by: Actor,
): Promise<number | undefined> {
  const place = { table: 'invites', column: 'psk_sealed', row: code.id };
  const createdAt = now();
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('invites')
    .values({
      id: code.id,
      // Whoever could read it might use the code in the place of the person who was given it.
      psk_sealed: await envelope.seal(tx, place, pskOf(code)),
      products: JSON.stringify(products),
      device_name: name ?? null,
      email: email ?? null,
      created_by: by.actor,
      created_at: createdAt,
      expires_at: createdAt + validMs,
      used_at: null,
      daemon_key: null,
      device_id: null,
    })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows === 0n) return undefined;
  const details = { products: products.join(' '), email: email ?? null, expires_at: createdAt + validMs };
  await audit.record(tx, { ...by, action: 'invite.created', target: code.id, details });
  return createdAt + validMs;
}

/** Takes away the invitations that have long ended; tells how many. */
export async function forgetInvites({ database, now }: Records): Promise<number> {
  const { numDeletedRows } = await database.write((tx) =>
    tx
      .deleteFrom('invites')
      .where('expires_at', '<', now() - KEPT_MS)
      .executeTakeFirst(),
  );
  return Number(numDeletedRows);
}

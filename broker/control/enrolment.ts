import { randomBytes, verify } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { z } from 'zod';
import {
  agreeOnSecret,
  codeFrom,
  enrolCovers,
  enrolledCovers,
  isMacOf,
  keyidOf,
  macOf,
  newAgreementKey,
  type ChallengeAnswer,
  type EnrolAnswer,
} from '@sallyport/protocol/enrolment.ts';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { ed25519PublicKey } from '@sallyport/protocol/keys.ts';
import { answerJson } from '../edge/answer.ts';
import type { Transaction } from '../store/database.ts';
import { noteIdentityChange, readCounter } from '../store/devices.ts';
import type { Invite } from '../store/tables.ts';
import { AlgorithmName, Line, MacBytes, ProofBytes, PublicKeyBytes, readAsked } from './asked.ts';
import { CHALLENGE_SECONDS, checkChallenge, newChallenge } from './challenge.ts';
import type { Records } from './records.ts';

type Exchange = { response: ServerResponse; answerHeaders: readonly string[]; requestId: string };

const Asked = z
  .strictObject({
    code_id: z.string().regex(/^[0-9a-hjkmnp-tv-z]{4}$/, 'must be the first four letters of the code, in lower case'),
    challenge: z.string().max(200),
    alg: AlgorithmName,
    daemon_key: PublicKeyBytes,
    device: z.strictObject({ name: Line, os: Line, install_id: Line }),
    mac: MacBytes,
    proof: ProofBytes.optional(),
  })
  .refine(({ alg, proof }) => (alg === 'ed25519') === (proof !== undefined), {
    path: ['proof'],
    message: 'must be there for ed25519, and only then',
  });
type Asked = z.infer<typeof Asked>;

/** Gives a challenge to whoever wants one: it is worth nothing without a code. */
export function challenge({ ring, now }: Pick<Records, 'ring' | 'now'>) {
  return (exchange: Exchange): void => {
    const answer: ChallengeAnswer = { challenge: newChallenge(ring, now()), expires_in: CHALLENGE_SECONDS };
    answerJson(exchange, 200, answer);
  };
}

/** Turns an invitation into a device: once, and with the same answer however often the same desktop asks. */
export function enrol(records: Records) {
  return async (exchange: Exchange & { body: Buffer }): Promise<void> => {
    const asked = readAsked(Asked, exchange.body);
    checkChallenge(records.ring, asked.challenge, records.now());
    answerJson(exchange, 200, await enrolDevice(records, asked, exchange.requestId));
  };
}

async function enrolDevice(records: Records, asked: Asked, requestId: string): Promise<EnrolAnswer> {
  const outcome = await records.database.write((tx) => useInvite(tx, records, asked, requestId));
  // Thrown only now: what was written down about a refusal must stay.
  if (outcome instanceof ApiError) throw outcome;
  return outcome;
}

async function useInvite(
  tx: Transaction,
  records: Records,
  asked: Asked,
  requestId: string,
): Promise<EnrolAnswer | ApiError> {
  const { envelope, audit, now } = records;
  const { code_id: id, daemon_key: daemonKey } = asked;
  // As the first thing in the transaction, and by writing: of 64 who come at once, all but one wait here.
  const found = await tx
    .updateTable('invites')
    .set(({ ref }) => ({ used_at: ref('used_at') }))
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirst();
  const place = { table: 'invites', column: 'psk_sealed', row: id };
  const psk = found?.psk_sealed ? await envelope.open(tx, place, found.psk_sealed) : randomBytes(32);
  const covers = enrolCovers({ challenge: asked.challenge, daemonKey, alg: asked.alg, device: asked.device });
  if (!isMacOf(asked.mac, psk, covers) || found === undefined) return new ApiError('invite_unknown');

  // From here on the caller has proven that it was given the code, and is told what became of it.
  const key = daemonKey.toString('base64url');
  if (found.used_at !== null) {
    if (found.daemon_key === key) return answerAgain(tx, found, psk, daemonKey);
    const details = { device: found.device_id, name: asked.device.name, os: asked.device.os };
    await audit.record(tx, { actor: `invite ${id}`, action: 'invite.refused', target: id, details, requestId });
    return new ApiError('invite_used');
  }
  if (found.expires_at <= now()) return new ApiError('invite_expired');
  if (asked.proof !== undefined && !verify(null, covers, ed25519PublicKey(daemonKey).key, asked.proof)) {
    return new ApiError('field_invalid', {
      param: 'proof',
      facts: { field: 'proof', why: 'does not match daemon_key' },
    });
  }
  return addDevice(tx, records, { asked, found, psk, requestId });
}

type Redeemed = { asked: Asked; found: Invite; psk: Buffer; requestId: string };

async function addDevice(tx: Transaction, records: Records, { asked, found, psk, requestId }: Redeemed) {
  const { audit, now } = records;
  const { daemon_key: daemonKey, device } = asked;
  const made = makeKey(asked.alg, daemonKey, psk);
  if (made instanceof ApiError) return made;
  const deviceId = newDeviceId();
  const createdAt = now();
  await tx
    .updateTable('invites')
    .set({ used_at: createdAt, daemon_key: daemonKey.toString('base64url'), device_id: deviceId })
    .where('id', '=', found.id)
    .execute();
  await tx
    .insertInto('devices')
    .values({
      id: deviceId,
      name: found.device_name ?? device.name,
      os: device.os,
      install_id: device.install_id,
      email: found.email,
      products: found.products,
      created_at: createdAt,
      confirmed_at: null,
      rotate_asked_at: null,
      revoked_at: null,
      revoked_because: null,
    })
    .execute();
  if (!(await addKey(tx, records, { made, deviceId, daemonKey }))) throw new ApiError('key_known');
  await noteIdentityChange(tx);
  const details = { invite: found.id, keyid: made.keyid, name: found.device_name ?? device.name, os: device.os };
  await audit.record(tx, {
    actor: `invite ${found.id}`,
    action: 'device.enrolled',
    target: deviceId,
    details,
    requestId,
  });
  return writeAnswer(found, deviceId, made, psk, daemonKey);
}

/** A device's new key as the broker keeps it: a secret that was agreed on, or a public key. */
export type MadeKey = { keyid: string; brokerKey?: Buffer } & (
  { algorithm: 'hmac-sha256'; secret: Buffer } | { algorithm: 'ed25519'; publicKey: Buffer }
);

/** Does the broker's half: agrees on a secret, or takes the public key as it is. */
export function makeKey(algorithm: Asked['alg'], daemonKey: Buffer, psk: Buffer): MadeKey | ApiError {
  if (algorithm === 'ed25519') return { algorithm, keyid: keyidOf(daemonKey), publicKey: daemonKey };
  const ours = newAgreementKey();
  const secret = agreeOnSecret(ours.privateKey, daemonKey, psk);
  if (secret === undefined) {
    const facts = { field: 'daemon_key', why: 'is not an X25519 key that can be used' };
    return new ApiError('field_invalid', { param: 'daemon_key', facts });
  }
  return { algorithm, keyid: keyidOf(secret), secret, brokerKey: ours.publicKey };
}

type NewKey = { made: MadeKey; deviceId: string; daemonKey: Buffer };

/** Writes a device's key down, its secret sealed; false when the key is there already. */
export async function addKey(
  tx: Transaction,
  { envelope, now }: Pick<Records, 'envelope' | 'now'>,
  { made, deviceId, daemonKey }: NewKey,
): Promise<boolean> {
  const place = { table: 'device_keys', column: 'secret_sealed', row: made.keyid };
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('device_keys')
    .values({
      keyid: made.keyid,
      device_id: deviceId,
      algorithm: made.algorithm,
      secret_sealed: made.algorithm === 'hmac-sha256' ? await envelope.seal(tx, place, made.secret) : null,
      public_key: made.algorithm === 'ed25519' ? made.publicKey.toString('base64url') : null,
      daemon_key: daemonKey.toString('base64url'),
      broker_key: made.brokerKey?.toString('base64url') ?? null,
      state: 'active',
      epoch: await readCounter(tx, 'min_key_epoch'),
      created_at: now(),
      first_used_at: null,
      not_after: null,
    })
    .onConflict((conflict) => conflict.column('keyid').doNothing())
    .executeTakeFirst();
  return numInsertedOrUpdatedRows === 1n;
}

// The answer that was lost on its way: made of what is kept, so that it is the same to the last byte.
async function answerAgain(tx: Transaction, found: Invite, psk: Buffer, daemonKey: Buffer) {
  const key = await tx
    .selectFrom('device_keys')
    .innerJoin('devices', 'devices.id', 'device_keys.device_id')
    .where('device_id', '=', found.device_id)
    .where('daemon_key', '=', found.daemon_key)
    .select(['keyid', 'broker_key', 'state', 'devices.revoked_at'])
    .executeTakeFirst();
  // Swept because it was never heard, or revoked since: the code is spent all the same.
  if (key === undefined || key.revoked_at !== null || key.state === 'gone') return new ApiError('device_revoked');
  const brokerKey = key.broker_key === null ? undefined : Buffer.from(key.broker_key, 'base64url');
  return writeAnswer(found, found.device_id!, { keyid: key.keyid, ...(brokerKey && { brokerKey }) }, psk, daemonKey);
}

function writeAnswer(
  { products }: Pick<Invite, 'products'>,
  deviceId: string,
  { keyid, brokerKey }: Pick<MadeKey, 'keyid' | 'brokerKey'>,
  psk: Buffer,
  daemonKey: Buffer,
): EnrolAnswer {
  return {
    device_id: deviceId,
    keyid,
    products: JSON.parse(products) as string[],
    ...(brokerKey && { broker_key: brokerKey.toString('base64url') }),
    mac: macOf(psk, enrolledCovers(daemonKey, brokerKey ?? Buffer.alloc(0), deviceId)).toString('base64url'),
  };
}

function newDeviceId(): string {
  const { id, secret } = codeFrom(randomBytes(16));
  return `dev_${id}${secret}`;
}

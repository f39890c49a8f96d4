import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { ed25519PublicKey } from '@sallyport/protocol/keys.ts';
import type { Database, Reader } from '../store/database.ts';
import type { Envelope } from '../store/envelope.ts';

/** What checkpoints are signed with. */
export type SigningKey = { id: string; privateKey: KeyObject };

type Sealing = Pick<Envelope, 'seal' | 'open'>;

// One name, so that two brokers that start for the first time together end up with one key.
const ID = 'audit-1';
const PLACE = { table: 'signing_keys', column: 'private_sealed', row: ID };
const RAW_BYTES = 32;

/** The key that signs checkpoints; it is made when it is first needed. */
export async function openSigningKey(database: Database, sealing: Sealing, now: () => number): Promise<SigningKey> {
  const row = (await findRow(database.read)) ?? (await makeKey(database, sealing, now));
  const der = await sealing.open(database.read, PLACE, row.private_sealed);
  return { id: row.id, privateKey: createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }) };
}

/** The public half as the database has it; whoever owns the database owns this one too. */
export async function findPublicKey(reader: Reader): Promise<KeyObject | undefined> {
  const row = await findRow(reader);
  return row === undefined ? undefined : readPublicKey(row.public_key);
}

/** Reads a public key: its 32 bytes in base64, spelled as writePublicKey spells them. Undefined for anything else. */
export function readPublicKey(text: string): KeyObject | undefined {
  const raw = Buffer.from(text, 'base64');
  return raw.length === RAW_BYTES && raw.toString('base64') === text ? ed25519PublicKey(raw).key : undefined;
}

/** Writes a public key: its 32 bytes in base64. */
export function writePublicKey(key: KeyObject): string {
  return key.export({ format: 'der', type: 'spki' }).subarray(-RAW_BYTES).toString('base64');
}

function findRow(reader: Reader) {
  return reader.selectFrom('signing_keys').selectAll().where('id', '=', ID).executeTakeFirst();
}

function makeKey(database: Database, sealing: Sealing, now: () => number) {
  return database.write(async (tx) => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const row = {
      id: ID,
      public_key: writePublicKey(createPublicKey(privateKey)),
      private_sealed: await sealing.seal(tx, PLACE, privateKey.export({ format: 'der', type: 'pkcs8' })),
      created_at: now(),
    };
    await tx
      .insertInto('signing_keys')
      .values(row)
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    return (await findRow(tx))!;
  });
}

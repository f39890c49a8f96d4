import { createHash, createSecretKey, hkdfSync, randomBytes, type KeyObject } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Secret } from '@sallyport/protocol/secret.ts';
import type { Config } from '../config/config.ts';
import { readEncryptionKey } from '../config/keys.ts';
import { Refusal } from '../config/refusal.ts';
import { OperatorError } from '../log/operator-error.ts';
import { syncFolder } from './data-folder.ts';
import type { Database } from './database.ts';

/** A key that encrypts other keys, and the name that it gives itself. A KeyObject does not print what it holds. */
export type RingKey = { id: string; key: KeyObject };

/** The keys of this broker: the primary encrypts, all decrypt. */
export type KeyRing = {
  primary: RingKey;
  /** The primary is the first. */
  keys: readonly RingKey[];
  find(id: string): RingKey | undefined;
  /** 32 bytes of each key for another use, the primary's first: whoever learns them learns nothing of the keys. */
  derive(purpose: string): Buffer[];
};

/** Thrown with a sentence for the operator when there is no ring to begin with. */
export class KeyRingError extends OperatorError {
  override name = 'KeyRingError';
}

/** The name of a key, made from the key itself: nobody has to choose one, and a key that is lost can still be named. */
export function keyId(key: Secret<Buffer>): string {
  return `k${createHash('sha256').update('sallyport/kek/v1').update(key.reveal()).digest('hex').slice(0, 10)}`;
}

/** The ring of these keys. */
export function keyRing(secrets: readonly Secret<Buffer>[]): KeyRing {
  const byId = new Map<string, RingKey>();
  for (const secret of secrets) {
    const id = keyId(secret);
    if (byId.has(id)) throw new KeyRingError(`The encryption key ${id} is given twice; keep one of them.`);
    byId.set(id, { id, key: createSecretKey(secret.reveal()) });
  }
  const keys = [...byId.values()];
  const [primary] = keys;
  if (primary === undefined)
    throw new KeyRingError('There is no encryption key; make one with: sallyport-broker keys new');
  return {
    primary,
    keys,
    find: (id) => byId.get(id),
    derive: (purpose) => keys.map(({ key }) => Buffer.from(hkdfSync('sha256', key, '', `sallyport/${purpose}/v1`, 32))),
  };
}

/**
 * The ring of the configuration; or of the one key in the data folder, which is made at its first need. The database has
 * its tables already: where it holds something that a key has encrypted, no other key is made in that key's place.
 */
export async function openKeyRing(
  { encryptionKeys, data }: Pick<Config, 'encryptionKeys' | 'data'>,
  database: Database,
): Promise<KeyRing> {
  if (encryptionKeys !== undefined) return keyRing(encryptionKeys);
  const path = join(data, KEY_FILE);
  const existing = readKeyFile(path);
  if (existing !== undefined) return keyRing([existing]);
  const held = await database.read.selectFrom('data_keys').select('kek').distinct().orderBy('kek').execute();
  if (held.length === 0) return keyRing([makeKeyFile(data, path)]);
  // Another process may have made it, and used it, since we looked.
  const late = readKeyFile(path);
  if (late !== undefined) return keyRing([late]);
  const lost = held.map(({ kek }) => kek).join(', ');
  throw new KeyRingError(
    `The file ${path} is gone, and the database holds what its key ${lost} has encrypted; put the file back, or give the key as ENCRYPTION_KEY.`,
  );
}

const KEY_FILE = 'encryption.key';

function readKeyFile(path: string): Secret<Buffer> | undefined {
  try {
    return readEncryptionKey(readFileSync(path, 'utf8').replace(/\r?\n$/, ''));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    const why = cause instanceof Refusal ? 'it does not hold a key of 32 bytes as base64' : (cause as Error).message;
    throw new KeyRingError(
      `The encryption key in ${path} cannot be read: ${why}; put back the file as it was, or give its key as ENCRYPTION_KEY.`,
      { cause },
    );
  }
}

function makeKeyFile(folder: string, path: string): Secret<Buffer> {
  const draft = `${path}.${randomBytes(8).toString('hex')}.new`;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeDurably(draft, `${randomBytes(32).toString('base64')}\n`);
    // Never over a file that is there: of two processes that come here at once, both take the key of the first.
    linkUnlessThere(draft, path);
    // Before anything is encrypted: a power cut must not leave a database whose key was never written.
    syncFolder(folder);
  } catch (cause) {
    throw new KeyRingError(
      `An encryption key cannot be kept in ${folder}: ${(cause as Error).message}; make the folder writable, or give a key as ENCRYPTION_KEY.`,
      { cause },
    );
  } finally {
    rmSync(draft, { force: true });
  }
  const key = readKeyFile(path);
  if (key === undefined) throw new KeyRingError(`The file ${path} went as soon as it was made; start again.`);
  return key;
}

function writeDurably(path: string, text: string): void {
  const file = openSync(path, 'wx', 0o600);
  try {
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function linkUnlessThere(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

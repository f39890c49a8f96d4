import { hmacKey, type VerifyingKey } from '@sallyport/protocol/keys.ts';
import type { Config } from '../config/config.ts';
import type { Caller } from './caller.ts';

/** What a key id stands for: the key, and who it speaks for, in one row, so that one is never checked without the other. */
export type KeyRow = { key: VerifyingKey; caller: Caller };

/** Finds the row of a key id. */
export type FindKey = (keyid: string) => KeyRow | undefined;

/** The keys of the clients in the configuration; a client's key id is its name. */
export function clientKeys(clients: Config['clients']): FindKey {
  const rows = new Map<string, KeyRow>();
  for (const { name, products, key } of clients) {
    rows.set(name, {
      key:
        key.algorithm === 'hmac-sha256' ? hmacKey(key.secret.reveal()) : { algorithm: 'ed25519', key: key.publicKey },
      caller: { kind: 'client', name, products },
    });
  }
  return (keyid) => rows.get(keyid);
}

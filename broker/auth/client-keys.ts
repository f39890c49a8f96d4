import { hmacKey, type VerifyingKey } from '@sallyport/protocol/keys.ts';
import type { Config } from '../config/config.ts';
import type { Caller } from './caller.ts';

/** What a key id stands for: the key, and who it speaks for, in one row, so that one is never checked without the other. */
export type KeyRow = {
  key: VerifyingKey;
  caller: Caller;
  /** Throws when the key may not be used any more. Asked once the signature is proven: nobody else is told why. */
  admit?: (nowMs: number) => void;
  /** Told of every request that is accepted, and may add to what it is answered. */
  heard?: (heard: Heard) => Promise<void> | void;
};

type Heard = { fields: ReadonlyMap<string, string>; answerHeaders: string[]; requestId: string };

/** Finds the row of a key id; at once where it is known already. */
export type FindKey = (keyid: string) => KeyRow | undefined | Promise<KeyRow | undefined>;

/** The keys of the clients in the configuration; a client's key id is its name. */
export function clientKeys(clients: Config['clients']): (keyid: string) => KeyRow | undefined {
  const rows = new Map<string, KeyRow>();
  for (const { name, products, key } of clients) {
    rows.set(name, {
      key:
        key.algorithm === 'hmac-sha256' ? hmacKey(key.secret.reveal()) : { algorithm: 'ed25519', key: key.publicKey },
      caller: { kind: 'client', name, keyid: name, products },
    });
  }
  return (keyid) => rows.get(keyid);
}

import { argon2, createCipheriv, createDecipheriv, createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { Secret } from '@sallyport/protocol/secret.ts';

// AES-256-GCM under a key that argon2id makes. The figures belong to version 1 of the file and stand nowhere in it: what
// is read from a file cannot make us spend a day, or no effort at all.

const EFFORT = { memory: 65_536, passes: 3, parallelism: 1, tagLength: 32 } as const; // KiB: 64 MiB, a fifth of a second
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** What a key is made with beside the passphrase; each installation has its own. */
export function freshSalt(): Buffer {
  return randomBytes(16);
}

/** The key of a passphrase. */
export async function keyOf(passphrase: Secret, salt: Buffer): Promise<KeyObject> {
  const bytes = await promisify(argon2)('argon2id', { ...EFFORT, message: passphrase.reveal(), nonce: salt });
  return createSecretKey(bytes);
}

/** The sealed form of some bytes: nonce, ciphertext, tag. `about` is not in it, and opening wants the same one. */
export function seal(key: KeyObject, about: string, plain: Buffer): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(about));
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** What was sealed; undefined when the key or `about` is another one, or a bit was changed. */
export function unseal(key: KeyObject, about: string, sealed: Buffer): Buffer | undefined {
  if (sealed.length < NONCE_BYTES + TAG_BYTES) return undefined;
  const end = sealed.length - TAG_BYTES;
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(about));
  decipher.setAuthTag(sealed.subarray(end));
  const plain = decipher.update(sealed.subarray(NONCE_BYTES, end));
  try {
    return Buffer.concat([plain, decipher.final()]);
  } catch {
    // Node's one error here, that the tag does not fit, is the answer.
    return undefined;
  }
}

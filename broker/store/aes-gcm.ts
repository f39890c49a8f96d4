import { createCipheriv, createDecipheriv, randomBytes, type KeyObject } from 'node:crypto';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** A nonce that no other message under the same key has. */
export function freshNonce(): Buffer {
  return randomBytes(NONCE_BYTES);
}

/** AES-256-GCM: the ciphertext, and the tag behind it. `about` is not hidden, but opening wants it to be the same. */
export function encrypt(key: KeyObject, nonce: Uint8Array, about: Uint8Array, plain: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(about);
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** What was encrypted; undefined when the key is another, or a bit of anything was changed. */
export function decrypt(
  key: KeyObject,
  nonce: Uint8Array,
  about: Uint8Array,
  encrypted: Uint8Array,
): Buffer | undefined {
  // Node takes nonces of other lengths, too, and hashes them; we never write such.
  if (nonce.length !== NONCE_BYTES || encrypted.length < TAG_BYTES) return undefined;
  const end = encrypted.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(about);
  decipher.setAuthTag(encrypted.subarray(end));
  const plain = decipher.update(encrypted.subarray(0, end));
  try {
    return Buffer.concat([plain, decipher.final()]);
  } catch {
    // Node's one error here, that the tag does not fit, is the answer. Until now `plain` was anybody's.
    return undefined;
  }
}

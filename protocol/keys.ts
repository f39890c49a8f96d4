import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  sign,
  timingSafeEqual,
  verify,
  type KeyObject,
} from 'node:crypto';

/** The two algorithms there are. The key decides which one is meant; what a signature says of itself never does. */
export type Algorithm = 'hmac-sha256' | 'ed25519';

/** Whether a signature names an algorithm that there is. */
export function isAlgorithm(name: string): name is Algorithm {
  return name === 'hmac-sha256' || name === 'ed25519';
}

/** What signs. */
export type SigningKey = { keyid: string; algorithm: Algorithm; key: KeyObject };

/** What verifies: for HMAC the same secret, for Ed25519 the public half. */
export type VerifyingKey = { algorithm: Algorithm; key: KeyObject };

const ED25519_PUBLIC_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const ED25519_PRIVATE_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** An HMAC key of these bytes, made once: a Buffer given to createHmac each time costs seven times as much. */
export function hmacKey(secret: Uint8Array): VerifyingKey & { algorithm: 'hmac-sha256' } {
  return { algorithm: 'hmac-sha256', key: createSecretKey(secret) };
}

/** An Ed25519 public key of its 32 raw bytes. */
export function ed25519PublicKey(raw: Uint8Array): VerifyingKey & { algorithm: 'ed25519' } {
  refuseOtherLengths(raw);
  const der = Buffer.concat([ED25519_PUBLIC_PREFIX, raw]);
  return { algorithm: 'ed25519', key: createPublicKey({ key: der, format: 'der', type: 'spki' }) };
}

/** An Ed25519 private key of its 32 raw bytes. */
export function ed25519PrivateKey(raw: Uint8Array): KeyObject {
  refuseOtherLengths(raw);
  const der = Buffer.concat([ED25519_PRIVATE_PREFIX, raw]);
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

// Node reads as many bytes as the prefix announces and passes over the rest: one key would have many spellings.
function refuseOtherLengths(raw: Uint8Array): void {
  if (raw.length !== 32) throw new TypeError('an Ed25519 key is 32 bytes');
}

/** The signature of these bytes: 32 for HMAC, 64 for Ed25519. */
export function signBytes(bytes: string, { algorithm, key }: SigningKey): Buffer {
  switch (algorithm) {
    case 'hmac-sha256':
      return createHmac('sha256', key).update(bytes).digest();
    case 'ed25519':
      return sign(null, Buffer.from(bytes), key);
  }
}

/** Whether the signature is this key's over these bytes; the lengths are fixed, so nothing shorter ever passes. */
export function verifiesBytes(bytes: string, signature: Buffer, { algorithm, key }: VerifyingKey): boolean {
  switch (algorithm) {
    case 'hmac-sha256': {
      const expected = createHmac('sha256', key).update(bytes).digest();
      return signature.length === expected.length && timingSafeEqual(signature, expected);
    }
    case 'ed25519':
      return signature.length === 64 && verify(null, Buffer.from(bytes), key, signature);
  }
}

import {
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  timingSafeEqual,
  type KeyObject,
} from 'node:crypto';
import type { Algorithm } from './keys.ts';

// How a desktop and a broker come to share a secret that is never sent. docs/protocol.md says it for people.

/** What a desktop says of itself; names for people to read, and an id that it made when it was installed. */
export type DeviceDescription = { name: string; os: string; install_id: string };

/** What `POST /v1/enroll/challenge` answers. The challenge stands in for a clock: a desktop whose own is wrong can enrol. */
export type ChallengeAnswer = { challenge: string; expires_in: number };

/** What `POST /v1/enroll` is asked. Keys, macs and proofs are base64url. */
export type EnrolRequest = {
  code_id: string;
  challenge: string;
  alg: Algorithm;
  /** X25519 for hmac-sha256; for ed25519 the public half of the key that will sign. */
  daemon_key: string;
  device: DeviceDescription;
  mac: string;
  /** For ed25519: a signature over what the mac covers, by the key that will sign. */
  proof?: string;
};

/** What it answers, however often the same desktop asks. */
export type EnrolAnswer = {
  device_id: string;
  keyid: string;
  products: string[];
  /** X25519; not there for ed25519, where nothing has to be agreed. */
  broker_key?: string;
  mac: string;
};

/** What `POST /v1/keys/rotate` is asked, signed by the key that is to be replaced. */
export type RotateRequest = { alg: Algorithm; daemon_key: string; mac?: string; proof?: string };

/** What it answers; the key that signed is taken until then, or ten minutes after the new one is first used. */
export type RotateAnswer = { keyid: string; previous_until: string; broker_key?: string; mac?: string };

/** What `GET /v1/whoami` answers a device. */
export type WhoAmIAnswer = {
  kind: 'device' | 'client';
  name: string;
  products: string[];
  device_id?: string;
  key?: { keyid: string; algorithm: Algorithm; created_at: string; expires_at?: string };
  /** The broker asks for a new key. */
  rotate?: boolean;
};

// Crockford's base32: no I, L, O and U, so that what is read aloud or from paper has one spelling.
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const ID_LENGTH = 4;
const SECRET_LENGTH = 16;

/** An enrolment code in its two parts: the first finds the invitation, the second proves it and is never sent. */
export type EnrolCode = { id: string; secret: string };

/** The code as a person sees it: five groups of four. */
export function writeCode({ id, secret }: EnrolCode): string {
  return (id + secret).toUpperCase().match(/.{4}/g)!.join('-');
}

/** Reads a code however it was typed; undefined when it cannot be one. */
export function readCode(typed: string): EnrolCode | undefined {
  const text = typed.toLowerCase().replace(/[\s-]/g, '').replace(/o/g, '0').replace(/[il]/g, '1');
  const isCode = text.length === ID_LENGTH + SECRET_LENGTH && [...text].every((letter) => ALPHABET.includes(letter));
  return isCode ? { id: text.slice(0, ID_LENGTH), secret: text.slice(ID_LENGTH) } : undefined;
}

/** A code made of random bytes, at least thirteen of them. */
export function codeFrom(random: Uint8Array): EnrolCode {
  const text = crockford(random, ID_LENGTH + SECRET_LENGTH);
  return { id: text.slice(0, ID_LENGTH), secret: text.slice(ID_LENGTH) };
}

/** What both sides know of a code before they talk; the broker keeps no more of it than this. */
export function pskOf({ secret }: Pick<EnrolCode, 'secret'>): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** What both sides of a rotation know already: the secret that is to be replaced, put to another use. */
export function pskOfSecret(secret: Uint8Array): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', 'sallyport/rotation/v1', 32));
}

type Purpose = 'enroll' | 'enrolled' | 'rotate' | 'rotated';

/** The bytes that a mac or a proof covers. Every field has its length in front: no two lists of fields look alike. */
export function covered(purpose: Purpose, fields: readonly (string | Uint8Array)[]): Buffer {
  return Buffer.concat(
    [purpose, ...fields].flatMap((field) => {
      const bytes = Buffer.from(field);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    }),
  );
}

type Enrolling = Pick<EnrolRequest, 'challenge' | 'alg' | 'device'> & { daemonKey: Uint8Array };

/** What a desktop's request to enrol covers. */
export function enrolCovers({ challenge, daemonKey, alg, device }: Enrolling): Buffer {
  return covered('enroll', [challenge, daemonKey, alg, device.name, device.os, device.install_id]);
}

/** What the broker's answer covers: whoever did not know the code cannot have made it. */
export function enrolledCovers(daemonKey: Uint8Array, brokerKey: Uint8Array, deviceId: string): Buffer {
  return covered('enrolled', [daemonKey, brokerKey, deviceId]);
}

/** What a request for a new key covers, beside the signature of the old one. */
export function rotateCovers(daemonKey: Uint8Array, alg: Algorithm, oldKeyid: string): Buffer {
  return covered('rotate', [daemonKey, alg, oldKeyid]);
}

/** What the answer to it covers. */
export function rotatedCovers(daemonKey: Uint8Array, brokerKey: Uint8Array, keyid: string): Buffer {
  return covered('rotated', [daemonKey, brokerKey, keyid]);
}

/** The mac of these bytes under what both sides know. */
export function macOf(psk: Uint8Array, bytes: Uint8Array): Buffer {
  return createHmac('sha256', psk).update(bytes).digest();
}

/** Whether a mac is that of these bytes. */
export function isMacOf(mac: Uint8Array, psk: Uint8Array, bytes: Uint8Array): boolean {
  const expected = macOf(psk, bytes);
  return mac.length === expected.length && timingSafeEqual(mac, expected);
}

const X25519_PUBLIC_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

/** One side's half of an agreement. */
export type AgreementKey = { privateKey: KeyObject; publicKey: Buffer };

/** A fresh X25519 pair; the public half as its 32 raw bytes. */
export function newAgreementKey(): AgreementKey {
  const { privateKey, publicKey } = generateKeyPairSync('x25519');
  return { privateKey, publicKey: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32) };
}

/**
 * The secret that both sides arrive at. Undefined for a key that is no point of use: with those the result would be the
 * same whoever asks.
 */
export function agreeOnSecret(privateKey: KeyObject, theirs: Uint8Array, psk: Uint8Array): Buffer | undefined {
  if (theirs.length !== 32) return undefined;
  const key = Buffer.concat([X25519_PUBLIC_PREFIX, theirs]);
  let shared: Buffer;
  try {
    shared = diffieHellman({ privateKey, publicKey: createPublicKey({ key, format: 'der', type: 'spki' }) });
  } catch {
    return undefined;
  }
  return Buffer.from(hkdfSync('sha256', shared, psk, 'sallyport/device-secret/v1', 32));
}

/** The key id of a device's key: made from the secret, or the public key, so that both sides know it unasked. */
export function keyidOf(material: Uint8Array): string {
  return `spk_${crockford(createHash('sha256').update(material).digest(), 26)}`;
}

function crockford(bytes: Uint8Array, letters: number): string {
  let text = '';
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    for (bits += 8; bits >= 5 && text.length < letters; bits -= 5) text += ALPHABET[(held >> (bits - 5)) & 31];
    held &= (1 << bits) - 1;
  }
  if (text.length < letters) throw new TypeError(`${letters} letters need ${Math.ceil((letters * 5) / 8)} bytes`);
  return text;
}

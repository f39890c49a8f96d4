import { createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readCode, writeCode } from '@sallyport/protocol/enrolment.ts';
import { Secret } from '@sallyport/protocol/secret.ts';
import { Refusal } from './refusal.ts';

const LEAST_SECRET_BYTES = 32;

/** The key of a provider. It travels in a header, so a line break that came along from a file is told here. */
export function readApiKey(text: string): Secret {
  if (text === '') throw new Refusal('The key is empty; write it here, or set the variable that holds it.');
  if (!/^[\x21-\x7e]+$/.test(text)) {
    throw new Refusal('A key is made of visible ASCII characters; look for a space or a line break at its end.');
  }
  return new Secret(text);
}

/** The secret that a client signs with: the bytes after `hex:` or `base64:`, else those of the text itself. */
export function readSecret(text: string): Secret<Buffer> {
  if (text === '') throw new Refusal('The secret is empty; write it here, or set the variable that holds it.');
  if (text.trim() !== text) throw new Refusal('The secret begins or ends with a space or a line break; take it away.');
  const bytes = decode(text);
  if (bytes === undefined && text.startsWith('hex:')) {
    throw new Refusal('After hex: write pairs of the digits 0 to 9 and a to f.');
  }
  if (bytes === undefined) throw new Refusal('After base64: write standard base64, with its = at the end.');
  if (bytes.length < LEAST_SECRET_BYTES) {
    throw new Refusal(
      `The secret is shorter than ${LEAST_SECRET_BYTES} bytes; make a new one with: echo "hex:$(openssl rand -hex 32)"`,
    );
  }
  return new Secret(bytes);
}

/** A key of the ring that encrypts: 32 bytes as base64, with + and / or - and _ as Fernet writes it, or as hex. */
export function readEncryptionKey(text: string): Secret<Buffer> {
  if (text === '') throw new Refusal('The key is empty; write it here, or set the variable that holds it.');
  const bytes = /^[\da-f]{64}$/i.test(text) ? Buffer.from(text, 'hex') : decodeBase64(toStandard(text));
  if (bytes?.length !== 32) {
    throw new Refusal('This is not a key of 32 bytes; make a new one with: sallyport-broker keys new');
  }
  return new Secret(bytes);
}

function toStandard(base64: string): string {
  return base64.replaceAll('-', '+').replaceAll('_', '/').padEnd(44, '=');
}

/** A product and the code by which its first device enrols. */
export function readFirstInvite(text: string): { product: string; code: Secret } {
  const [product = '', typed = '', ...rest] = text.split(':');
  const code = readCode(typed);
  if (product === '' || code === undefined || rest.length > 0) {
    throw new Refusal(
      'Write a product, a colon and a code of twenty letters and digits; make one with: sallyport-broker invite --print-code',
    );
  }
  return { product, code: new Secret(writeCode(code)) };
}

/** The Ed25519 public key of a client, as PEM or as the base64 of its 32 bytes. */
export function readPublicKey(text: string): KeyObject {
  // Node would quietly derive the public half, and the file would go on holding what it must not.
  if (text.includes('PRIVATE KEY')) {
    throw new Refusal(
      'This is a private key; write the public one here, and make a new pair, for this one has been shown.',
    );
  }
  const key = text.includes('-----BEGIN') ? parsePem(text) : parseRaw(text);
  if (key?.asymmetricKeyType !== 'ed25519') {
    throw new Refusal('Write an Ed25519 public key: PEM (BEGIN PUBLIC KEY), or the base64 of its 32 bytes.');
  }
  return key;
}

function decode(text: string): Buffer | undefined {
  const [, form, rest = ''] = /^(hex|base64):(.*)$/s.exec(text) ?? [];
  if (form === undefined) return Buffer.from(text, 'utf8');
  if (form === 'hex') return /^([\da-f]{2})*$/i.test(rest) ? Buffer.from(rest, 'hex') : undefined;
  return decodeBase64(rest);
}

// Buffer.from skips what is not base64; whoever misspells a key should hear of it instead.
function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

function parsePem(text: string): KeyObject | undefined {
  try {
    return createPublicKey(text);
  } catch {
    return undefined;
  }
}

function parseRaw(text: string): KeyObject | undefined {
  const bytes = decodeBase64(text);
  if (bytes?.length !== 32) return undefined;
  return createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x: bytes.toString('base64url') } });
}

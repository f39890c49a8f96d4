import { hash } from 'node:crypto';
import { readOneSpelling } from './structured-field.ts';

const KNOWN = new Map([
  ['sha-256', 'sha256'],
  ['sha-512', 'sha512'],
]);

/** The Content-Digest (RFC 9530) that we send for these bytes. */
export function contentDigest(body: Uint8Array): string {
  return `sha-256=:${hash('sha256', body, 'base64')}:`;
}

// The digest nearly every sender writes, canonical by shape: 43 characters, of which the last carries four bits.
const PLAIN = /^sha-256=:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=:$/;

/** Whether the header is in its one spelling and names a digest that we can check. */
export function isReadableDigest(raw: string): boolean {
  return PLAIN.test(raw) || readDigests(raw) !== undefined;
}

/** Whether every digest we know is the digest of these bytes: a sender who names two means both. */
export function digestMatches(raw: string, body: Uint8Array): boolean {
  if (PLAIN.test(raw)) return raw === contentDigest(body);
  const digests = readDigests(raw);
  if (digests === undefined) return false;
  return digests.every(([algorithm, expected]) => hash(algorithm, body, 'buffer').equals(expected));
}

function readDigests(raw: string): [algorithm: string, digest: Buffer][] | undefined {
  const dictionary = readOneSpelling(raw);
  if (dictionary === undefined) return undefined;
  const digests: [string, Buffer][] = [];
  for (const [name, [value]] of dictionary) {
    if (!(value instanceof ArrayBuffer)) return undefined;
    const algorithm = KNOWN.get(name);
    // Unknown names are for other readers (RFC 9530 2): they neither help nor harm.
    if (algorithm !== undefined) digests.push([algorithm, Buffer.from(value)]);
  }
  return digests.length > 0 ? digests : undefined;
}

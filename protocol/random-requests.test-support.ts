import { createHash } from 'node:crypto';
import { digestMatches } from './content-digest.ts';
import { ApiError } from './errors.ts';
import { ed25519PrivateKey, ed25519PublicKey, hmacKey, type SigningKey, type VerifyingKey } from './keys.ts';
import { isInWindow, isSignedBy, readSignature, signRequest, type RequestView, type Tag } from './profile.ts';

// Random requests for the tests of the profile, made of one seed, so that a failure can be made again.

/** A number from 0 up to, and without, the limit. */
export type Pick = (limit: number) => number;

/** A request as it lies on the wire, signature and all. */
export type Sent = {
  method: string;
  authority: string;
  path: string;
  query: string;
  fields: ReadonlyMap<string, string>;
  body?: Uint8Array;
};

/** What belongs together: who signs, and who checks it. */
export type KeyPair = { signer: SigningKey; verifier: VerifyingKey };

/** The numbers of one seed, always the same ones (mulberry32). */
export function picksOf(seed: number): Pick {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

export function oneOf<Value>(pick: Pick, values: ArrayLike<Value>): Value {
  return values[pick(values.length)]!;
}

export function randomBytesOf(pick: Pick, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => pick(256)));
}

export function hmacPair(secret: Uint8Array, keyid: string): KeyPair {
  const verifier = hmacKey(secret);
  return { verifier, signer: { ...verifier, keyid } };
}

export function ed25519Pair(secret: Uint8Array, publicRaw: Uint8Array, keyid: string): KeyPair {
  const key = ed25519PrivateKey(secret);
  return { verifier: ed25519PublicKey(publicRaw), signer: { keyid, algorithm: 'ed25519', key } };
}

// RFC 8032, section 7.1, TEST 1.
export const ED25519 = ed25519Pair(
  Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex'),
  Buffer.from('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a', 'hex'),
  'robot.7_a-B',
);

export function randomHmacPair(pick: Pick): KeyPair {
  const device = `spk_${randomText(pick, '0123456789abcdefghjkmnpqrstvwxyz', 26)}`;
  return hmacPair(randomBytesOf(pick, 32), oneOf(pick, [device, 'desktop', 'A', 'build-7.example_x', 'k'.repeat(64)]));
}

export function randomText(pick: Pick, alphabet: string, length: number): string {
  return Array.from({ length }, () => oneOf(pick, alphabet)).join('');
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';
const PATH_CHARACTERS = `${LETTERS}ABCXYZ0129._~:@!$&'()*+,;=-`;
// An apostrophe is legal in a query too and has a test of its own: one of the two libraries cannot carry it.
const QUERY_CHARACTERS = `${PATH_CHARACTERS.replace("'", '')}/?`;
const VALUE_CHARACTERS = Array.from({ length: 95 }, (_, i) => String.fromCharCode(0x20 + i)).join('');

export const AUTHORITIES = [
  'broker.example.com',
  'broker.example.com:8443',
  'localhost:8080',
  '127.0.0.1:9',
  '[::1]:80',
];
const TYPES = ['application/json', 'multipart/form-data; boundary="a b"', 'application/json; charset=utf-8', 'x/y'];

/** A request that a client could rightly send: odd in every way that is legal, before it is signed. */
export function randomRequest(pick: Pick): Sent {
  const fields = new Map<string, string>([['accept', '*/*']]);
  const hasBody = pick(2) === 0;
  if (hasBody) fields.set('content-type', oneOf(pick, TYPES));
  if (pick(3) === 0) fields.set('idempotency-key', randomValue(pick));
  for (let left = pick(5); left > 0; left--) {
    const name = oneOf(pick, ['product', 'app', 'install', 'max-cost', randomText(pick, `${LETTERS}019-_.!'~`, 6)]);
    fields.set(`x-sallyport-${name}`, randomValue(pick));
  }
  return {
    method: hasBody ? oneOf(pick, ['POST', 'PUT', 'PATCH']) : oneOf(pick, ['GET', 'DELETE', 'POST', 'HEAD']),
    authority: oneOf(pick, AUTHORITIES),
    path: randomPath(pick),
    query: randomQuery(pick),
    fields,
    ...(hasBody ? { body: randomBytesOf(pick, 1 + pick(200)) } : {}),
  };
}

function randomValue(pick: Pick): string {
  // A front end may trim a value, so what is sent neither begins nor ends with a space; it may well be empty.
  return randomText(pick, VALUE_CHARACTERS, pick(20)).trim();
}

function randomPath(pick: Pick): string {
  const segments = Array.from({ length: 1 + pick(4) }, () => `s${randomText(pick, PATH_CHARACTERS, pick(8))}`);
  return oneOf(pick, ['/', '/v1/models', '/v1/chat/completions', `/${segments.join('/')}`, `/${segments.join('/')}/`]);
}

function randomQuery(pick: Pick): string {
  if (pick(2) === 0) return '';
  const parts = Array.from({ length: 1 + pick(4) }, () =>
    oneOf(pick, ['%2F', '%20', '%C3%A9', '%00', '&', 'a=b', '+', randomText(pick, QUERY_CHARACTERS, 1 + pick(8))]),
  );
  return `?${parts.join('')}`;
}

/** The request with what signing adds to it. */
export function signed(pick: Pick, request: Sent, { signer }: KeyPair, created: number, tag?: Tag): Sent {
  const { fields: plain, ...rest } = request;
  const moment = {
    created,
    nonce: randomBytesOf(pick, 16).toString('base64url'),
    ...(tag === undefined ? {} : { tag }),
  };
  const added = signRequest({ ...rest, fields: Object.fromEntries(plain) }, signer, moment);
  return withFields(request, added);
}

/** The request with these fields set, or removed where the value is undefined. */
export function withFields(sent: Sent, changes: Readonly<Record<string, string | undefined>>): Sent {
  const fields = new Map(sent.fields);
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) fields.delete(name.toLowerCase());
    else fields.set(name.toLowerCase(), value);
  }
  return { ...sent, fields };
}

export function viewOf({ body, ...sent }: Sent): RequestView {
  return { ...sent, hasContent: body !== undefined };
}

/** Everything a broker checks without a memory: form, MAC, window, and the body against its digest. */
export function isAccepted(sent: Sent, { verifier }: KeyPair, nowSeconds: number, tag: Tag = 'sallyport-v1'): boolean {
  try {
    const read = readSignature(viewOf(sent), tag);
    if (!isSignedBy(read, verifier) || !isInWindow(read, nowSeconds)) return false;
  } catch (error) {
    // Any other error is a crash that a stranger can cause, and must turn the test red.
    if (error instanceof ApiError && /^signature_(?:malformed|required)$/.test(error.code)) return false;
    throw error;
  }
  return sent.body === undefined || digestMatches(sent.fields.get('content-digest') ?? '', sent.body);
}

/** One text for one request: two requests are the same exactly when their texts are. */
export function asText({ body, fields, ...sent }: Sent): string {
  const content = body === undefined ? 'none' : createHash('sha256').update(body).digest('hex');
  return JSON.stringify([sent.method, sent.authority, sent.path, sent.query, [...fields].toSorted(), content]);
}

import { randomBytes } from 'node:crypto';
import { contentDigest, isReadableDigest } from './content-digest.ts';
import { ApiError } from './errors.ts';
import { HEADER, OUR_PREFIX } from './headers.ts';
import { isAlgorithm, signBytes, verifiesBytes, type Algorithm, type SigningKey, type VerifyingKey } from './keys.ts';
import { signatureBase, type SignedView } from './signature-base.ts';
import { LABEL, malformed, readSignatureInput } from './signature-input.ts';
import { readOneSpelling } from './structured-field.ts';

// sallyport-1: what we sign and what we accept of RFC 9421, strictly. docs/protocol.md says it for people.

/** Tags separate powers: what an app asked for, what the daemon asks for itself, and enrolment. */
export type Tag = 'sallyport-v1' | 'sallyport-device-v1' | 'sallyport-enroll-v1';

/** The window that signers ask for, and the widest that is accepted. */
export const LIFETIME_SECONDS = 60;
export const LONGEST_LIFETIME_SECONDS = 300;

/** How far ahead of ours a signer's clock may be. Not more: a signature from the future outlives a restart of the replay store. */
export const SKEW_SECONDS = 5;

const MOST_COMPONENTS = 16;
const ALWAYS_COVERED = ['@method', '@authority', '@path', '@query'] as const;

const FIELD_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/;
const VISIBLE_ASCII = /^[\x20-\x7e]*$/;

// What a proxy may rightly change, or what names the connection and not the request. `host` is covered as @authority.
const NEVER_COVERED = new Set([
  'host',
  'content-length',
  'date',
  'authorization',
  'cookie',
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'signature',
  'signature-input',
]);

/** A request as the profile sees it. */
export type RequestView = SignedView & { hasContent: boolean };

/** What a signature says of itself, well-formed but not yet proven. */
export type ReadSignature = {
  keyid: string;
  algorithm: Algorithm;
  created: number;
  expires: number;
  nonce: string;
  base: string;
  signature: Buffer;
};

type Unsigned = {
  method: string;
  authority: string;
  path: string;
  query?: string;
  /** The header fields that will be sent; those that must be covered are picked out. */
  fields?: Readonly<Record<string, string>>;
  body?: Uint8Array;
};

/** When the signature is made, and the number used once. A retry is a new moment. */
export type Moment = { created: number; nonce: string; expires?: number; tag?: Tag };

/** 128 random bits, as the profile spells them. */
export function newNonce(): string {
  return randomBytes(16).toString('base64url');
}

/** The headers that make a request a signed one: Signature-Input, Signature and, for a body, Content-Digest. */
export function signRequest(request: Unsigned, key: SigningKey, moment: Moment): Record<string, string> {
  const fields = new Map(Object.entries(request.fields ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
  const added: Record<string, string> = {};
  if (request.body !== undefined) {
    if (request.body.length === 0) throw new TypeError('an empty body is no body; leave it out');
    if (!fields.has(HEADER.contentType)) throw new TypeError('a signed body needs a content-type');
    added[HEADER.contentDigest] = contentDigest(request.body);
    fields.set(HEADER.contentDigest, added[HEADER.contentDigest]!);
  }
  const components: string[] = [...ALWAYS_COVERED];
  // Content first, so that the order is the one of the published vector.
  for (const name of [HEADER.contentType, HEADER.contentDigest]) if (fields.has(name)) components.push(name);
  for (const name of fields.keys()) if (mustBeCovered(name) && !components.includes(name)) components.push(name);

  // Who has hashed a large body on its way to a file brings the digest and not the bytes.
  if (fields.has(HEADER.contentType) !== fields.has(HEADER.contentDigest)) {
    throw new TypeError('content-type and content-digest come together, for a request with a body');
  }

  const { created, nonce, expires = created + LIFETIME_SECONDS, tag = 'sallyport-v1' } = moment;
  const covered = components.map((name) => `"${name}"`).join(' ');
  const parameters =
    `(${covered});created=${created};expires=${expires};nonce="${nonce}"` +
    `;keyid="${key.keyid}";alg="${key.algorithm}";tag="${tag}"`;
  const base = signatureBase(components, parameters, { ...request, query: request.query ?? '', fields });
  if (base === undefined) throw new TypeError('a covered field is missing');
  added[HEADER.signatureInput] = `${LABEL}=${parameters}`;
  added[HEADER.signature] = `${LABEL}=:${signBytes(base, key).toString('base64')}:`;
  return added;
}

/**
 * Reads the signature of a request by its headers alone; throws where it is missing or breaks a rule of form.
 * Nothing it returns is proven until `isSignedBy` says so.
 */
export function readSignature(view: RequestView, tag: Tag): ReadSignature {
  const rawInput = view.fields.get(HEADER.signatureInput);
  const rawSignature = view.fields.get(HEADER.signature);
  if (rawInput === undefined && rawSignature === undefined) throw new ApiError('signature_required');
  if (rawInput === undefined || rawSignature === undefined) {
    throw malformed('Signature and Signature-Input come together');
  }
  const input = readSignatureInput(rawInput);
  if (input.tag !== tag) throw malformed(`this address takes signatures with the tag ${tag} only`);
  const { created, expires, nonce, keyid, algorithm, components } = input;
  if (expires <= created || expires - created > LONGEST_LIFETIME_SECONDS) {
    throw malformed(`expires must be 1 to ${LONGEST_LIFETIME_SECONDS} s after created`);
  }
  if (!isAlgorithm(algorithm)) throw malformed('alg is neither hmac-sha256 nor ed25519');
  checkComponents(components);
  checkCoverage(components, view);
  const signature = readSignatureBytes(rawSignature);
  const base = signatureBase(components, input.text, view);
  if (base === undefined) throw malformed('it covers something that is not in the request');
  return { created, expires, nonce, keyid, algorithm, base, signature };
}

/** Whether the key made this signature over our own view of the request. */
export function isSignedBy(read: ReadSignature, key: VerifyingKey): boolean {
  // The row of the key owns the algorithm; a public key must never come to be used as an HMAC secret.
  return read.algorithm === key.algorithm && verifiesBytes(read.base, read.signature, key);
}

/** The last second in which the signature is accepted, whatever clock it is measured by. */
export function lastValidSecond(read: Pick<ReadSignature, 'created' | 'expires'>): number {
  return Math.min(read.expires, read.created + LONGEST_LIFETIME_SECONDS) + SKEW_SECONDS;
}

/** Whether now is inside the signature's window. */
export function isInWindow(read: Pick<ReadSignature, 'created' | 'expires'>, nowSeconds: number): boolean {
  return read.created <= nowSeconds + SKEW_SECONDS && nowSeconds <= lastValidSecond(read);
}

function mustBeCovered(name: string): boolean {
  return (
    name === HEADER.contentType ||
    name === HEADER.contentDigest ||
    name === HEADER.idempotencyKey ||
    name.startsWith(OUR_PREFIX)
  );
}

function checkComponents(components: readonly string[]): void {
  if (components.length > MOST_COMPONENTS) throw malformed(`it covers more than ${MOST_COMPONENTS} components`);
  for (const [index, name] of components.entries()) {
    if (components.indexOf(name) !== index) throw malformed(`it covers ${name} twice`);
    if (name.startsWith('@') ? !(ALWAYS_COVERED as readonly string[]).includes(name) : !FIELD_NAME.test(name)) {
      throw malformed(`the component ${name} is not accepted`);
    }
    if (NEVER_COVERED.has(name)) throw malformed(`${name} cannot be covered: front ends may change it`);
  }
}

function checkCoverage(components: readonly string[], view: RequestView): void {
  for (const name of ALWAYS_COVERED) {
    if (!components.includes(name)) throw malformed(`it must cover ${name}`);
  }
  for (const name of view.fields.keys()) {
    if (mustBeCovered(name) && !components.includes(name)) throw malformed(`it must cover ${name}, which was sent`);
  }
  for (const name of components) {
    const value = view.fields.get(name);
    if (value !== undefined && !VISIBLE_ASCII.test(value)) throw malformed(`${name} holds bytes outside visible ASCII`);
  }
  const rawDigest = view.fields.get(HEADER.contentDigest);
  if (view.hasContent) {
    if (!components.includes(HEADER.contentType)) throw malformed('a body needs Content-Type, covered');
    if (rawDigest === undefined) throw malformed('a body needs Content-Digest, covered');
    if (!isReadableDigest(rawDigest)) {
      throw malformed('Content-Digest is not in its one canonical spelling, or has neither sha-256 nor sha-512');
    }
  } else if (rawDigest !== undefined || view.fields.has(HEADER.contentType)) {
    throw malformed('a request without a body carries no Content-Type and no Content-Digest');
  }
}

// 32 bytes under our label, canonical by shape: 43 characters, of which the last carries four bits.
const PLAIN_SIGNATURE = /^sp=:([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=):$/;

function readSignatureBytes(raw: string): Buffer {
  const plain = PLAIN_SIGNATURE.exec(raw);
  if (plain !== null) return Buffer.from(plain[1]!, 'base64');
  const [value, parameters] = readOneSpelling(raw)?.get(LABEL) ?? [];
  // A parameter here would be signed by nobody, and give one signature as many spellings as one likes.
  if (!(value instanceof ArrayBuffer) || parameters === undefined || parameters.size > 0) {
    throw malformed('Signature is not in its one canonical spelling');
  }
  return Buffer.from(value);
}

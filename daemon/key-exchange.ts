import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import {
  agreeOnSecret,
  enrolCovers,
  enrolledCovers,
  isMacOf,
  keyidOf,
  macOf,
  newAgreementKey,
  pskOfSecret,
  rotateCovers,
  rotatedCovers,
  type DeviceDescription,
  type EnrolRequest,
  type RotateRequest,
} from '@sallyport/protocol/enrolment.ts';
import { ed25519PrivateKey, hmacKey, type Algorithm, type SigningKey } from '@sallyport/protocol/keys.ts';
import { readAnswer, textIn } from './broker-answer.ts';
import { IdentityError } from './identity-error.ts';
import type { OpenUplink } from './uplink.ts';

// The desktop's side of docs/protocol.md, "How a desktop enrols". Nothing is kept here: what must outlive a crash is made
// before, and written down by identity.ts.

/** Our half of an exchange, made before anything is sent, so that it can be sent again. */
export type Half = { algorithm: Algorithm; privateKey: KeyObject; publicKey: Buffer };

/** A key as the broker knows it, and the bytes that the keychain is to hold. */
export type NewKey = { keyid: string; material: Buffer };

const X25519_PRIVATE_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const KEY_BYTES = 32;

/** A fresh half. */
export function newHalf(algorithm: Algorithm): Half {
  if (algorithm === 'hmac-sha256') return { algorithm, ...newAgreementKey() };
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return { algorithm, privateKey, publicKey: rawPublic(publicKey) };
}

/** A half as one item of the keychain; with it what the code proves itself by, or a crash would need the code again. */
export function packHalf({ privateKey }: Half, psk: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([rawPrivate(privateKey), psk]);
}

/** What was packed; undefined when it is not the private half of this public key. */
export function unpackHalf(
  item: Buffer,
  algorithm: Algorithm,
  publicKey: string,
): { half: Half; psk: Buffer } | undefined {
  if (item.length < KEY_BYTES) return undefined;
  const raw = item.subarray(0, KEY_BYTES);
  const privateKey =
    algorithm === 'ed25519'
      ? ed25519PrivateKey(raw)
      : createPrivateKey({ key: Buffer.concat([X25519_PRIVATE_PREFIX, raw]), format: 'der', type: 'pkcs8' });
  const half = { algorithm, privateKey, publicKey: rawPublic(createPublicKey(privateKey)) };
  if (half.publicKey.toString('base64url') !== publicKey) return undefined;
  return { half, psk: item.subarray(KEY_BYTES) };
}

/** The key of a keychain item; undefined when the item is not the key of that name. */
export function keyOfItem(item: Buffer, keyid: string, algorithm: Algorithm): SigningKey | undefined {
  if (item.length !== KEY_BYTES) return undefined;
  if (algorithm === 'hmac-sha256') return keyidOf(item) === keyid ? { keyid, ...hmacKey(item) } : undefined;
  const key = ed25519PrivateKey(item);
  return keyidOf(rawPublic(createPublicKey(key))) === keyid ? { keyid, algorithm, key } : undefined;
}

type Conversation = { line: OpenUplink; host: string; signal: AbortSignal };
type Enrolling = { half: Half; psk: Buffer; codeId: string; device: DeviceDescription };

/** Asks to be enrolled. The same half and code get the same answer, however often. */
export async function askToEnrol(
  talk: Conversation,
  { half, psk, codeId, device }: Enrolling,
): Promise<NewKey & { deviceId: string }> {
  const { host } = talk;
  const challenge = textIn(await post(talk, '/v1/enroll/challenge'), 'challenge', host);
  const covers = enrolCovers({ challenge, daemonKey: half.publicKey, alg: half.algorithm, device });
  const request: EnrolRequest = {
    code_id: codeId,
    challenge,
    alg: half.algorithm,
    daemon_key: half.publicKey.toString('base64url'),
    device,
    mac: macOf(psk, covers).toString('base64url'),
    ...(half.algorithm === 'ed25519' && { proof: sign(null, covers, half.privateKey).toString('base64url') }),
  };
  const answer = await post(talk, '/v1/enroll', request);
  const deviceId = textIn(answer, 'device_id', host);
  const brokerKey = brokerKeyIn(answer, half, host);
  const mac = Buffer.from(textIn(answer, 'mac', host), 'base64url');
  if (!isMacOf(mac, psk, enrolledCovers(half.publicKey, brokerKey, deviceId))) {
    throw new IdentityError('broker_unproven', { host });
  }
  return { ...finish(half, brokerKey, psk, answer, host), deviceId };
}

/** Asks for a new key in the place of this one, signed by it. */
export async function askToRotate(
  talk: Conversation,
  half: Half,
  old: { keyid: string; algorithm: Algorithm; material: Buffer },
): Promise<NewKey> {
  const { host } = talk;
  const psk = old.algorithm === 'hmac-sha256' ? pskOfSecret(old.material) : Buffer.alloc(0);
  const covers = rotateCovers(half.publicKey, half.algorithm, old.keyid);
  const request: RotateRequest = {
    alg: half.algorithm,
    daemon_key: half.publicKey.toString('base64url'),
    ...(half.algorithm === 'hmac-sha256'
      ? { mac: macOf(psk, covers).toString('base64url') }
      : { proof: sign(null, covers, half.privateKey).toString('base64url') }),
  };
  const answer = await post(talk, '/v1/keys/rotate', request, true);
  const brokerKey = brokerKeyIn(answer, half, host);
  const made = finish(half, brokerKey, psk, answer, host);
  if (half.algorithm === 'hmac-sha256') {
    const mac = Buffer.from(textIn(answer, 'mac', host), 'base64url');
    if (!isMacOf(mac, psk, rotatedCovers(half.publicKey, brokerKey, made.keyid))) {
      throw new IdentityError('broker_unproven', { host });
    }
  }
  return made;
}

/** What the broker knows of the key that signs. */
export type Known = { deviceId: string; name: string; products: string[]; keyCreatedAt: string };

/** Asks the broker who we are, signed by the key of that name: only now is it known to work. */
export async function askWhoWeAre({ line, host, signal }: Conversation, keyid: string): Promise<Known> {
  const path = '/v1/whoami';
  const incoming = await line.send({
    method: 'GET',
    path,
    query: '',
    fields: {},
    tag: 'sallyport-device-v1',
    signal,
  });
  const answer = await readAnswer(incoming, host);
  const { key, products } = answer as { key?: { keyid?: unknown; created_at?: unknown }; products?: unknown };
  if (key?.keyid !== keyid || typeof key.created_at !== 'string' || !Array.isArray(products)) {
    throw new IdentityError('not_a_broker', { host, why: 'it knows this key by another name' });
  }
  return {
    deviceId: textIn(answer, 'device_id', host),
    name: textIn(answer, 'name', host),
    products: products.map(String),
    keyCreatedAt: key.created_at,
  };
}

async function post({ line, host, signal }: Conversation, path: string, value?: object, signed = false) {
  const bytes = value === undefined ? undefined : Buffer.from(JSON.stringify(value));
  const outgoing = {
    method: 'POST',
    path,
    query: '',
    fields: bytes === undefined ? {} : { 'content-type': 'application/json' },
    ...(bytes !== undefined && { body: { bytes } }),
    signal,
  };
  const sending = signed ? line.send({ ...outgoing, tag: 'sallyport-device-v1' }) : line.sendUnsigned(outgoing);
  return readAnswer(await sending, host);
}

function brokerKeyIn(answer: Record<string, unknown>, { algorithm }: Half, host: string): Buffer {
  return algorithm === 'ed25519' ? Buffer.alloc(0) : Buffer.from(textIn(answer, 'broker_key', host), 'base64url');
}

// The key id is ours to compute; a broker that names another one does not hold the key that we hold.
function finish(half: Half, brokerKey: Buffer, psk: Buffer, answer: Record<string, unknown>, host: string): NewKey {
  const material =
    half.algorithm === 'ed25519' ? rawPrivate(half.privateKey) : agreeOnSecret(half.privateKey, brokerKey, psk);
  const keyid = material && keyidOf(half.algorithm === 'ed25519' ? half.publicKey : material);
  if (material === undefined || keyid === undefined || answer['keyid'] !== keyid) {
    throw new IdentityError('broker_unproven', { host });
  }
  return { keyid, material };
}

function rawPublic(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(-KEY_BYTES);
}

function rawPrivate(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'pkcs8' }).subarray(-KEY_BYTES);
}

import { createSecretKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import {
  agreeOnSecret,
  enrolCovers,
  enrolledCovers,
  isMacOf,
  keyidOf,
  macOf,
  newAgreementKey,
  pskOf,
  pskOfSecret,
  readCode,
  rotateCovers,
  rotatedCovers,
  type ChallengeAnswer,
  type EnrolAnswer,
  type EnrolRequest,
  type RotateAnswer,
  type RotateRequest,
} from '@sallyport/protocol/enrolment.ts';
import type { Algorithm, SigningKey } from '@sallyport/protocol/keys.ts';
import type { Answer, Ask, World } from './world.ts';

/** What reaches a broker; a world does. */
export type Reachable = Pick<World, 'ask'>;

/** A desktop's half of an exchange, made before anything is sent: it can be sent again. */
export type Offer = { algorithm: Algorithm; publicKey: Buffer; privateKey: KeyObject };

/** A desktop's key, and what a daemon would keep of it in the keychain. */
export type HeldKey = { key: SigningKey; secret?: Buffer; deviceId: string };

/** How a desktop describes itself. */
export const DESKTOP = { name: 'Desk by the window', os: 'linux 6.18', install_id: 'inst_0001' };

/** What a daemon asks for itself is signed for that. */
export const FOR_ITSELF = { tag: 'sallyport-device-v1' } as const;

/** Half of an exchange, by this algorithm. */
export function newOffer(algorithm: Algorithm = 'hmac-sha256'): Offer {
  if (algorithm === 'hmac-sha256') return { algorithm, ...newAgreementKey() };
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return { algorithm, privateKey, publicKey: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32) };
}

/** The request by which a desktop enrols, for a challenge. */
export function enrolRequest(code: string, offer: Offer, challenge: string, device = DESKTOP): EnrolRequest {
  const read = readCode(code);
  if (read === undefined) throw new TypeError(`${code} is no code`);
  const covers = enrolCovers({ challenge, daemonKey: offer.publicKey, alg: offer.algorithm, device });
  return {
    code_id: read.id,
    challenge,
    alg: offer.algorithm,
    daemon_key: offer.publicKey.toString('base64url'),
    device,
    mac: macOf(pskOf(read), covers).toString('base64url'),
    ...(offer.algorithm === 'ed25519' && { proof: sign(null, covers, offer.privateKey).toString('base64url') }),
  };
}

/** A fresh challenge. */
export async function askChallenge(broker: Reachable): Promise<string> {
  const { text } = await broker.ask({ method: 'POST', path: '/v1/enroll/challenge', signed: false });
  return (JSON.parse(text) as ChallengeAnswer).challenge;
}

/** Asks to be enrolled, as often as it is called. */
export async function askToEnrol(broker: Reachable, code: string, offer: Offer, device = DESKTOP): Promise<Answer> {
  const body = enrolRequest(code, offer, await askChallenge(broker), device);
  return broker.ask({ path: '/v1/enroll', body, signed: false });
}

/** What a desktop makes of the answer: its key; it throws when the answer is not that of a broker that knew the code. */
export function readEnrolment(code: string, offer: Offer, { status, text }: Answer): HeldKey {
  if (status !== 200) throw new Error(`${status} ${text}`);
  const answer = JSON.parse(text) as EnrolAnswer;
  const psk = pskOf(readCode(code)!);
  const brokerKey = Buffer.from(answer.broker_key ?? '', 'base64url');
  const covers = enrolledCovers(offer.publicKey, brokerKey, answer.device_id);
  if (!isMacOf(Buffer.from(answer.mac, 'base64url'), psk, covers)) throw new Error('the mac is wrong');
  return { ...finish(offer, brokerKey, psk, answer.keyid), deviceId: answer.device_id };
}

/** Enrols a desktop, from the code to the first signed request. */
export async function enrolDesktop(broker: Reachable, code: string, algorithm?: Algorithm): Promise<HeldKey> {
  const offer = newOffer(algorithm);
  const held = readEnrolment(code, offer, await askToEnrol(broker, code, offer));
  const { status, text } = await whoAmI(broker, held.key);
  if (status !== 200) throw new Error(`${status} ${text}`);
  return held;
}

/** Asks who this key speaks for. */
export function whoAmI(broker: Reachable, key: SigningKey, more: Ask = {}): Promise<Answer> {
  return broker.ask({ path: '/v1/whoami', key, moment: FOR_ITSELF, ...more });
}

/** The request for a new key. */
export function rotateRequest({ key, secret }: HeldKey, offer: Offer): RotateRequest {
  const covers = rotateCovers(offer.publicKey, offer.algorithm, key.keyid);
  return {
    alg: offer.algorithm,
    daemon_key: offer.publicKey.toString('base64url'),
    ...(offer.algorithm === 'hmac-sha256'
      ? { mac: macOf(pskOfSecret(secret!), covers).toString('base64url') }
      : { proof: sign(null, covers, offer.privateKey).toString('base64url') }),
  };
}

/** Asks for a new key in the place of this one, as often as it is called. */
export function askToRotate(broker: Reachable, held: HeldKey, offer: Offer): Promise<Answer> {
  const body = rotateRequest(held, offer);
  return broker.ask({ path: '/v1/keys/rotate', key: held.key, moment: FOR_ITSELF, body });
}

/** What a desktop makes of the answer to that. */
export function readRotation(held: HeldKey, offer: Offer, { status, text }: Answer): HeldKey {
  if (status !== 200) throw new Error(`${status} ${text}`);
  const answer = JSON.parse(text) as RotateAnswer;
  const brokerKey = Buffer.from(answer.broker_key ?? '', 'base64url');
  const psk = held.secret === undefined ? Buffer.alloc(0) : pskOfSecret(held.secret);
  if (answer.mac !== undefined) {
    const covers = rotatedCovers(offer.publicKey, brokerKey, answer.keyid);
    if (!isMacOf(Buffer.from(answer.mac, 'base64url'), psk, covers)) throw new Error('the mac is wrong');
  }
  return { ...finish(offer, brokerKey, psk, answer.keyid), deviceId: held.deviceId };
}

function finish(offer: Offer, brokerKey: Buffer, psk: Buffer, keyid: string): Omit<HeldKey, 'deviceId'> {
  if (offer.algorithm === 'ed25519') {
    if (keyid !== keyidOf(offer.publicKey)) throw new Error('another key id');
    return { key: { keyid, algorithm: 'ed25519', key: offer.privateKey } };
  }
  const secret = agreeOnSecret(offer.privateKey, brokerKey, psk);
  if (secret === undefined || keyid !== keyidOf(secret)) throw new Error('another secret');
  return { key: { keyid, algorithm: 'hmac-sha256', key: createSecretKey(secret) }, secret };
}

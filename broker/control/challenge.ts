import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { ApiError } from '@sallyport/protocol/errors.ts';
import type { KeyRing } from '../store/key-ring.ts';

/** How long a challenge may be answered, in seconds. */
export const CHALLENGE_SECONDS = 300;

const RANDOM_BYTES = 16;
const TIME_BYTES = 6;
const PURPOSE = 'enrolment-challenge';

/** A challenge that no instance has to remember: random bytes and its end, under a mac that every instance can check. */
export function newChallenge(ring: KeyRing, nowMs: number): string {
  const plain = Buffer.alloc(RANDOM_BYTES + TIME_BYTES);
  randomBytes(RANDOM_BYTES).copy(plain);
  plain.writeUIntBE(nowMs + CHALLENGE_SECONDS * 1000, RANDOM_BYTES, TIME_BYTES);
  return Buffer.concat([plain, mac(ring.derive(PURPOSE)[0]!, plain)]).toString('base64url');
}

/** Refuses a challenge that is not ours or no longer open. */
export function checkChallenge(ring: KeyRing, challenge: string, nowMs: number): void {
  const bytes = Buffer.from(challenge, 'base64url');
  const plain = bytes.subarray(0, RANDOM_BYTES + TIME_BYTES);
  const given = bytes.subarray(RANDOM_BYTES + TIME_BYTES);
  const isOurs =
    bytes.toString('base64url') === challenge &&
    ring.derive(PURPOSE).some((key) => given.length === 32 && timingSafeEqual(given, mac(key, plain)));
  if (!isOurs || plain.readUIntBE(RANDOM_BYTES, TIME_BYTES) <= nowMs) throw new ApiError('challenge_stale');
}

function mac(key: Buffer, plain: Buffer): Buffer {
  return createHmac('sha256', key).update(plain).digest();
}

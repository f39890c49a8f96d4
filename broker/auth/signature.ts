import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import { hmacKey, type Algorithm, type VerifyingKey } from '@sallyport/protocol/keys.ts';
import {
  isInWindow,
  isSignedBy,
  lastValidSecond,
  readSignature,
  type ReadSignature,
  type RequestView,
  type Tag,
} from '@sallyport/protocol/profile.ts';
import type { FindKey, KeyRow } from './client-keys.ts';
import type { ReplayStore } from './replay.ts';

type Settings = { findKey: FindKey; replay: ReplayStore; now: () => number };

// Nobody's keys. A key id that is unknown, or named with the wrong algorithm, costs the same as a known one, so that time
// does not tell which key ids exist.
const NOBODY = {
  'hmac-sha256': hmacKey(randomBytes(32)),
  ed25519: { algorithm: 'ed25519', key: generateKeyPairSync('ed25519').publicKey },
} as const satisfies Record<Algorithm, VerifyingKey>;

/**
 * Verifies a sallyport-1 signature by the headers alone: form, key, MAC, and only then time and replay.
 * The order is the defence: until the MAC is right, every answer is the same for those who have no key.
 */
export function signatureVerifier({ findKey, replay, now }: Settings) {
  return async (view: RequestView, tag: Tag): Promise<KeyRow> => {
    const read = readSignature(view, tag);
    const found = findKey(read.keyid);
    const row = found instanceof Promise ? await found : found;
    const isKnown = row?.key.algorithm === read.algorithm;
    const isGenuine = isSignedBy(read, isKnown ? row.key : NOBODY[read.algorithm]);
    if (!isKnown || !isGenuine) throw new ApiError('signature_invalid');

    const nowMs = now();
    row.admit?.(nowMs);
    const nowSeconds = Math.floor(nowMs / 1000);
    if (!isInWindow(read, nowSeconds)) throw outsideWindow(nowMs);
    await claim(read, nowMs);
    return row;
  };

  async function claim(read: ReadSignature, nowMs: number): Promise<void> {
    const verdict = await replay.claim({
      keyid: read.keyid,
      nonce: read.nonce,
      created: read.created,
      lastSecond: lastValidSecond(read),
      nowSeconds: Math.floor(nowMs / 1000),
    });
    switch (verdict.is) {
      case 'fresh':
        return;
      case 'used':
        throw new ApiError('signature_replayed');
      case 'forgotten':
        throw outsideWindow(nowMs);
      case 'fenced':
        throw waiting(
          'not_ready',
          verdict.seconds,
          'it has just started and waits until no old signature can be replayed',
        );
      case 'crowded':
        throw waiting('signature_flood', verdict.seconds);
      case 'full':
        throw waiting('signature_store_full', verdict.seconds);
    }
  }
}

// The time is given only here, behind a proven key: it lets a daemon whose clock is off sign again, once.
function outsideWindow(nowMs: number): ApiError {
  return new ApiError('signature_window', {
    headers: { [HEADER.time]: String(nowMs), date: new Date(nowMs).toUTCString() },
  });
}

function waiting(code: 'not_ready' | 'signature_flood' | 'signature_store_full', seconds: number, why = ''): ApiError {
  return new ApiError(code, { facts: { seconds, why }, headers: { [HEADER.retryAfter]: String(seconds) } });
}

import assert from 'node:assert/strict';
import { createSecretKey, generateKeyPairSync } from 'node:crypto';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import { hmacKey, type SigningKey } from '@sallyport/protocol/keys.ts';
import { signRequest, type Moment } from '@sallyport/protocol/profile.ts';
import type { Caller } from './caller.ts';
import type { KeyRow } from './client-keys.ts';
import { MemoryReplayStore, type LastStop } from './replay-memory.ts';
import type { Claim, ReplayStore, Verdict } from './replay.ts';
import { signatureVerifier } from './signature.ts';

const T = 1_767_225_600;
const secret = Buffer.alloc(32, 7);
const desktop: SigningKey = { keyid: 'desktop', algorithm: 'hmac-sha256', key: createSecretKey(secret) };
const caller: Caller = { kind: 'client', name: 'desktop', keyid: 'desktop', products: ['p'] };
const NONCE = 'AAECAwQFBgcICQoLDA0ODw';

type Settings = {
  nowMs?: number;
  key?: SigningKey;
  moment?: Partial<Moment>;
  rows?: Record<string, KeyRow>;
  replay?: ReplayStore;
  last?: LastStop;
  change?: (fields: Map<string, string>) => void;
  path?: string;
};

function view(settings: Settings) {
  const { key = desktop, moment, change } = settings;
  const body = Buffer.from('{}');
  const fields = { 'content-type': 'application/json' };
  const request = { method: 'POST', authority: 'broker.example.com', path: '/v1/chat/completions' };
  const signature = signRequest({ ...request, fields, body }, key, { created: T, nonce: NONCE, ...moment });
  const sent = new Map(Object.entries({ ...fields, ...signature }));
  change?.(sent);
  return { ...request, path: settings.path ?? request.path, query: '', fields: sent, hasContent: true };
}

function verifier(settings: Settings) {
  const rows = settings.rows ?? { desktop: { key: hmacKey(secret), caller } };
  const last = settings.last ?? { snapshot: { fence: -1, droppedUpTo: -1, live: [] } };
  const replay = settings.replay ?? new MemoryReplayStore({ nowSeconds: T, last });
  const verify = signatureVerifier({ findKey: (id) => rows[id], replay, now: () => settings.nowMs ?? T * 1000 });
  return async () => (await verify(view(settings), 'sallyport-v1')).caller;
}

async function refusal(settings: Settings): Promise<ApiError> {
  const error: unknown = await verifier(settings)().catch((thrown: unknown) => thrown);
  assert.ok(error instanceof ApiError, 'it was accepted');
  return error;
}

const asSeen = ({ code, status, message, headers }: ApiError) => ({ code, status, message, headers });

const otherSecret: Settings['key'] = { ...desktop, key: createSecretKey(Buffer.alloc(32, 8)) };
const late = { nowMs: (T + 3600) * 1000 };

describe('a signature', () => {
  it('names the caller of its key', async () => {
    assert.deepEqual(await verifier({})(), caller);
  });

  it('is taken as Ed25519 from a key that is Ed25519', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const key: SigningKey = { keyid: 'desktop', algorithm: 'ed25519', key: privateKey };
    const rows = { desktop: { key: { algorithm: 'ed25519' as const, key: publicKey }, caller } };
    assert.deepEqual(await verifier({ key, rows })(), caller);
    assert.equal((await refusal({ key })).code, 'signature_invalid');
    assert.equal((await refusal({ rows })).code, 'signature_invalid');
  });

  it('is refused alike for a key that is not known and for one that did not make it', async () => {
    const invalid = asSeen(await refusal({ key: otherSecret }));
    assert.equal(invalid.code, 'signature_invalid');
    assert.deepEqual(asSeen(await refusal({ key: { ...desktop, keyid: 'nobody' } })), invalid);
    assert.deepEqual(asSeen(await refusal({ path: '/v1/embeddings' })), invalid);
    const { privateKey } = generateKeyPairSync('ed25519');
    assert.deepEqual(
      asSeen(await refusal({ key: { keyid: 'desktop', algorithm: 'ed25519', key: privateKey } })),
      invalid,
    );
  });

  for (const [name, keyid] of [
    ['is not known', 'nobody'],
    ['did not make it', 'desktop'],
  ] as const) {
    it(`tells nothing about time, use or fence to one whose key ${name}`, async () => {
      const key = { ...otherSecret, keyid };
      const invalid = asSeen(await refusal({ key }));
      assert.deepEqual(invalid.headers, {});
      assert.deepEqual(asSeen(await refusal({ key, ...late })), invalid);
      assert.deepEqual(asSeen(await refusal({ key, last: { lastSeen: T } })), invalid);
    });

    it(`uses up no nonce when its key ${name}`, async () => {
      const replay = new MemoryReplayStore({
        nowSeconds: T,
        last: { snapshot: { fence: -1, droppedUpTo: -1, live: [] } },
      });
      await refusal({ replay, key: { ...otherSecret, keyid } });
      assert.deepEqual(replay.snapshot().live, []);
      assert.deepEqual(await verifier({ replay })(), caller);
    });
  }

  it('uses up no nonce outside its window', async () => {
    const replay = new MemoryReplayStore({
      nowSeconds: T,
      last: { snapshot: { fence: -1, droppedUpTo: -1, live: [] } },
    });
    assert.equal((await refusal({ replay, ...late })).code, 'signature_window');
    assert.deepEqual(replay.snapshot().live, []);
  });

  it('is refused by its form before its key is looked up', async () => {
    const asked: string[] = [];
    const rows = new Proxy({}, { get: (_, id) => void asked.push(String(id)) });
    const change = (fields: Map<string, string>) => void fields.set('signature', 'sp=:AAAA');
    assert.equal((await refusal({ rows, change })).code, 'signature_malformed');
    assert.deepEqual(asked, []);
    assert.equal((await refusal({ rows })).code, 'signature_invalid');
    assert.deepEqual(asked, ['desktop']);
  });

  // How far the clock of the broker is from the moment of signing, in milliseconds.
  for (const [offMs, lifetime, code] of [
    [0, 60, undefined],
    [-5_000, 60, undefined],
    [-5_001, 60, 'signature_window'],
    [65_999, 60, undefined],
    [66_000, 60, 'signature_window'],
    [305_999, 300, undefined],
    [306_000, 300, 'signature_window'],
    [6_999, 1, undefined],
    [7_000, 1, 'signature_window'],
  ] as const) {
    it(`${code === undefined ? 'is accepted' : 'is refused'} ${offMs} ms after it was made for ${lifetime} s`, async () => {
      const settings = { nowMs: T * 1000 + offMs, moment: { expires: T + lifetime } };
      if (code === undefined) assert.deepEqual(await verifier(settings)(), caller);
      else assert.equal((await refusal(settings)).code, code);
    });
  }

  it('outside its window learns the time of the broker', async () => {
    const nowMs = (T + 3600) * 1000 + 250;
    const { headers, status } = await refusal({ nowMs });
    assert.equal(status, 401);
    assert.deepEqual(headers, { 'x-sallyport-time': String(nowMs), date: 'Thu, 01 Jan 2026 01:00:00 GMT' });
  });

  it('is taken once', async () => {
    const verify = verifier({});
    assert.deepEqual(await verify(), caller);
    await assert.rejects(verify, { code: 'signature_replayed', status: 401, headers: {} });
  });

  it('is taken once of many that come at the same time', async () => {
    const verify = verifier({});
    const ends = await Promise.allSettled(Array.from({ length: 64 }, verify));
    assert.equal(ends.filter(({ status }) => status === 'fulfilled').length, 1);
  });

  const verdicts: [verdict: Verdict, code: ErrorCode, status: number, retryAfter: string | undefined][] = [
    [{ is: 'used' }, 'signature_replayed', 401, undefined],
    [{ is: 'forgotten' }, 'signature_window', 401, undefined],
    [{ is: 'fenced', seconds: 4 }, 'not_ready', 503, '4'],
    [{ is: 'crowded', seconds: 9 }, 'signature_flood', 429, '9'],
    [{ is: 'full', seconds: 3 }, 'signature_store_full', 503, '3'],
  ];
  for (const [verdict, code, status, retryAfter] of verdicts) {
    it(`is refused with ${status} ${code} when the store says ${verdict.is}, also when it says so later`, async () => {
      for (const claim of [() => verdict, () => Promise.resolve(verdict)]) {
        const error = await refusal({ replay: { claim, fencedForMs: () => 0 } });
        assert.deepEqual([error.code, error.status, error.headers['retry-after']], [code, status, retryAfter]);
      }
    });
  }

  it('is not taken when the store fails', async () => {
    const replay: ReplayStore = { claim: () => Promise.reject(new Error('gone')), fencedForMs: () => 0 };
    await assert.rejects(verifier({ replay }), { message: 'gone' });
  });

  it('is claimed for exactly as long as it could be accepted', async () => {
    const claims: Claim[] = [];
    const claim = (one: Claim): Verdict => {
      claims.push(one);
      return { is: 'fresh' };
    };
    await verifier({ replay: { claim, fencedForMs: () => 0 }, moment: { expires: T + 300 }, nowMs: T * 1000 + 999 })();
    assert.deepEqual(claims, [{ keyid: 'desktop', nonce: NONCE, created: T, lastSecond: T + 305, nowSeconds: T }]);
  });
});

import assert from 'node:assert/strict';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import { IdempotencyMemory, LARGEST_KEPT, type Claim } from './idempotency.ts';

const DAY_MS = 24 * 3_600_000;
const MIB = 1024 ** 2;
const answer = (body: Buffer | undefined) => ({ status: 200, headers: ['content-type', 'application/json'], body });
const ANSWER = answer(Buffer.from('{}'));

type Asked = { owner?: string; key?: string; operation?: string; body?: string };

/** A memory, a clock, and claims on it. */
function open() {
  const clock = { ms: 0 };
  const memory = new IdempotencyMemory({ now: () => clock.ms });
  const ask = ({ owner = 'desktop', key = 'key', operation = 'chat', body = 'body' }: Asked = {}) =>
    memory.claim({ owner, key, operation, body: Buffer.from(body) });
  return {
    clock,
    memory,
    ask,
    claim(asked?: Asked): Claim {
      const claim = ask(asked);
      assert.equal(claim.answered, undefined);
      return claim as Claim;
    },
    refuses(asked: Asked, code: ErrorCode, status: number, headers = {}) {
      assert.throws(
        () => ask(asked),
        (error) => {
          assert.ok(error instanceof ApiError);
          assert.deepEqual([error.code, error.status, error.headers], [code, status, headers]);
          return true;
        },
      );
    },
  };
}

describe('the memory for what is asked twice', () => {
  it('gives the same answer to the same request', () => {
    const { claim, ask } = open();
    claim().keep(ANSWER);
    assert.deepEqual(ask().answered, ANSWER);
    assert.deepEqual(ask().answered, ANSWER);
  });

  it('takes the key while it is being answered', () => {
    const { claim, refuses } = open();
    claim();
    refuses({}, 'idempotency_in_progress', 409, { 'retry-after': '1' });
  });

  for (const [what, other] of [
    ['another body', { body: 'Body' }],
    ['no body', { body: '' }],
    ['another operation', { operation: 'embeddings' }],
  ] as const) {
    it(`refuses a key that comes again with ${what}, answered or not`, () => {
      const { claim, refuses } = open();
      const first = claim();
      refuses(other, 'idempotency_mismatch', 422);
      first.keep(ANSWER);
      refuses(other, 'idempotency_mismatch', 422);
    });
  }

  it('remembers that there was an answer, where it was too large to keep', () => {
    const { claim, refuses } = open();
    claim().keep(answer(undefined));
    refuses({}, 'idempotency_too_large', 409, { 'x-should-retry': 'false' });
  });

  it('forgets what it is told to forget', () => {
    const { claim, memory } = open();
    const first = claim();
    first.forget();
    assert.equal(memory.bytes, 0);
    claim({ body: 'another' }).keep(ANSWER);
    first.forget();
    first.keep(answer(Buffer.from('late')));
    assert.throws(() => claim(), { code: 'idempotency_mismatch' });
  });

  it('forgets an answer after a day, and no sooner; one that is not finished is not forgotten', () => {
    const { claim, ask, clock, refuses, memory } = open();
    claim({ key: 'slow' });
    const first = claim();
    clock.ms = DAY_MS;
    first.keep(ANSWER);
    clock.ms = 2 * DAY_MS - 1;
    assert.deepEqual(ask().answered, ANSWER);
    clock.ms = 2 * DAY_MS;
    const second = claim();
    refuses({ key: 'slow' }, 'idempotency_in_progress', 409, { 'retry-after': '1' });
    // What the first still has to say is about an entry that is gone.
    first.forget();
    refuses({}, 'idempotency_in_progress', 409, { 'retry-after': '1' });
    second.forget();
    claim({ key: 'other' }).forget();
    assert.ok(memory.bytes > 0 && memory.bytes < 1024);
  });

  it('keeps each caller’s keys apart', () => {
    const { claim, ask } = open();
    claim({ owner: 'p client a' }).keep(ANSWER);
    claim({ owner: 'p client b', body: 'other' }).keep(answer(Buffer.from('b')));
    claim({ owner: 'q client a' });
    assert.equal(String(ask({ owner: 'p client a' }).answered?.body), '{}');
    assert.equal(String(ask({ owner: 'p client b', body: 'other' }).answered?.body), 'b');
  });

  it('asks vendors with a key that is the same each time, and tells nothing of the caller’s', () => {
    const keyFor = (asked: Asked) => open().claim(asked).upstreamKey;
    assert.equal(keyFor({}), keyFor({}));
    assert.match(keyFor({ key: 'secret' }), /^[0-9a-f]{64}$/);
    const keys = [{}, { owner: 'other' }, { key: 'other' }].map(keyFor);
    assert.equal(new Set(keys).size, 3);
  });

  for (const key of ['', ' ', 'a b', 'a\tb', 'a\nb', 'ä', '\x7f', 'a'.repeat(256)]) {
    it(`refuses the key ${JSON.stringify(key.slice(0, 10))}`, () => {
      open().refuses({ key }, 'idempotency_key_malformed', 400);
    });
  }

  for (const key of ['a', '!~', 'a'.repeat(255), '__proto__', 'constructor', '8f14e45f-ceea-467f-a0e6-9d3e3f1c8a2b']) {
    it(`takes the key ${key.slice(0, 40)}`, () => {
      const { claim, ask } = open();
      claim({ key }).keep(ANSWER);
      assert.deepEqual(ask({ key }).answered, ANSWER);
    });
  }

  describe('stays within bounds:', () => {
    const large = answer(Buffer.alloc(LARGEST_KEPT));

    it('whoever sends too much has their own oldest forgotten first, and nobody else’s', () => {
      const { claim, ask, memory } = open();
      claim({ owner: 'other' }).keep(ANSWER);
      for (let i = 0; i < 4; i++) claim({ key: `${i}` }).keep(large);
      assert.ok(memory.bytes <= 16 * MIB + 4096);
      // Four of the largest and what it takes to know of them are more than may be kept.
      assert.equal(ask({ key: '0' }).answered, undefined);
      for (const key of ['1', '2', '3']) assert.equal(ask({ key }).answered?.body.length, LARGEST_KEPT);
      assert.deepEqual(ask({ owner: 'other' }).answered, ANSWER);
    });

    it('keys without answers count too', () => {
      const { claim, memory, ask } = open();
      for (let i = 0; i < 40_000; i++) claim({ key: `${i}` }).keep(answer(undefined));
      assert.ok(memory.bytes <= 16 * MIB);
      assert.equal(ask({ key: '0' }).answered, undefined);
    });

    it('when all together are too much, the largest owner’s oldest are forgotten', () => {
      const { claim, ask, memory } = open();
      const fill = (owner: string, answers: number) => {
        for (let i = 0; i < answers; i++) claim({ owner, key: `${i}` }).keep(large);
      };
      fill('small', 1);
      for (let i = 0; i < 6; i++) fill(`large-${i}`, 3);
      assert.ok(memory.bytes <= 64 * MIB, `${memory.bytes}`);
      assert.equal(ask({ owner: 'small', key: '0' }).answered?.body.length, LARGEST_KEPT);
      const left = Array.from({ length: 6 }, (_, i) => ask({ owner: `large-${i}`, key: '2' }).answered?.body.length);
      assert.deepEqual(
        left,
        Array.from({ length: 6 }, () => LARGEST_KEPT),
      );
    });

    it('what is still being answered is not forgotten for what was', () => {
      const { claim, refuses } = open();
      claim({ key: 'slow' });
      for (let i = 0; i < 20; i++) claim({ key: `${i}` }).keep(large);
      refuses({ key: 'slow' }, 'idempotency_in_progress', 409, { 'retry-after': '1' });
    });

    it('and nothing is left of what was forgotten', () => {
      const { claim, memory } = open();
      const claims = Array.from({ length: 100 }, (_, i) => claim({ owner: `o${i % 7}`, key: `${i}` }));
      assert.ok(memory.bytes > 0);
      for (const one of claims) one.forget();
      assert.equal(memory.bytes, 0);
    });
  });
});

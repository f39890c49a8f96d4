import assert from 'node:assert/strict';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { MemoryCounters, type Rate } from './counters-memory.ts';
import { limitRate } from './rate.ts';

const NOON = Date.UTC(2026, 0, 1, 12);

function limited(rate: Rate, wallMs = NOON) {
  const clock = { elapsedMs: 0 };
  const stage = limitRate(new MemoryCounters({ now: () => wallMs, elapsedMs: () => clock.elapsedMs }));
  const ask = (name = 'desktop', product = 'p') => {
    const answerHeaders: string[] = [];
    let error: ApiError | undefined;
    try {
      stage({ product: { name: product, rate }, caller: { kind: 'client', name }, answerHeaders });
    } catch (thrown) {
      assert.ok(thrown instanceof ApiError);
      error = thrown;
    }
    const pairs = answerHeaders.flatMap((header, i) => (i % 2 === 0 ? [[header, answerHeaders[i + 1]!]] : []));
    return { headers: Object.fromEntries(pairs) as Record<string, string>, error };
  };
  return { ask, clock };
}

describe('the rate of a product', () => {
  it('tells every caller what is left, as OpenAI does', () => {
    const { ask } = limited({ burst: 10, perSecond: 5, perDay: 1000 });
    assert.deepEqual(ask(), {
      headers: {
        'x-ratelimit-limit-requests': '10',
        'x-ratelimit-remaining-requests': '9',
        'x-ratelimit-reset-requests': '200ms',
      },
      error: undefined,
    });
  });

  it('refuses what comes too fast, with both forms of Retry-After and the same three headers', () => {
    const { ask, clock } = limited({ burst: 1, perSecond: 0.4, perDay: 1000 });
    ask();
    clock.elapsedMs = 0.5;
    const { error, headers } = ask();
    assert.deepEqual([error?.code, error?.status], ['rate_limited', 429]);
    assert.deepEqual(error?.headers, { 'retry-after': '3', 'retry-after-ms': '2500' });
    assert.equal(headers['x-ratelimit-remaining-requests'], '0');
    assert.match(error.message, /1 requests at once and 0\.4 a second; wait 3 s/);
  });

  it('refuses what is over the quota, and asks client libraries not to try again', () => {
    const { ask } = limited({ burst: 10, perSecond: 5, perDay: 1 });
    ask();
    const { error, headers } = ask();
    assert.deepEqual([error?.code, error?.status], ['quota_exhausted', 429]);
    assert.deepEqual(error?.headers, {
      'retry-after': '43200',
      'retry-after-ms': '43200000',
      'x-should-retry': 'false',
    });
    assert.equal(headers['x-ratelimit-limit-requests'], '1');
    assert.equal(headers['x-ratelimit-reset-requests'], '12h0m0s');
  });

  it('is counted for each pair of product and caller', () => {
    const { ask } = limited({ burst: 1, perSecond: 1, perDay: 10 });
    assert.equal(ask('a', 'p').error, undefined);
    assert.equal(ask('b', 'p').error, undefined);
    assert.equal(ask('a', 'q').error, undefined);
    assert.equal(ask('a', 'p').error?.code, 'rate_limited');
  });

  // How long one request occupies the bucket, and how that is written.
  for (const [perSecond, written] of [
    [1000, '1ms'],
    [3, '334ms'],
    [1, '1s'],
    [0.4, '2.5s'],
    [1 / 6.54, '6.6s'],
    [1 / 59.9, '59.9s'],
    [1 / 59.95, '1m0s'],
    [1 / 123, '2m3s'],
    [1 / 3600, '1h0m0s'],
    [1 / 18_012, '5h0m12s'],
  ] as const) {
    it(`writes ${written}`, () => {
      const { ask } = limited({ burst: 1, perSecond });
      assert.equal(ask().headers['x-ratelimit-reset-requests'], written);
    });
  }
});

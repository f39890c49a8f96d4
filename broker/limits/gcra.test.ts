import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { askPace, type Pace } from './gcra.ts';

/** The token bucket as it is usually explained: so many tokens, and so many more each second, never above the brim. */
class NaiveBucket {
  readonly #pace: Pace;
  #tokens: number;
  #atMs: number;

  constructor(pace: Pace, nowMs: number) {
    this.#pace = pace;
    this.#tokens = pace.burst;
    this.#atMs = nowMs;
  }

  take(nowMs: number): { allowed: boolean; tokens: number } {
    this.#tokens = Math.min(this.#pace.burst, this.#tokens + ((nowMs - this.#atMs) / 1000) * this.#pace.perSecond);
    this.#atMs = nowMs;
    const allowed = this.#tokens >= 1 - 1e-6;
    if (allowed) this.#tokens -= 1;
    return { allowed, tokens: this.#tokens };
  }
}

describe('the pace', () => {
  it('is that of a token bucket, whatever the burst, the rate and the pauses', () => {
    const pace = fc.record({
      burst: fc.integer({ min: 1, max: 50 }),
      // Rates whose cost is a whole number of microseconds, so that the two do not differ by rounding alone.
      perSecond: fc.constantFrom(0.1, 0.5, 1, 2, 4, 5, 8, 10, 100, 250, 1000),
    });
    const pauses = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 3000 })), { maxLength: 200 });
    fc.assert(
      fc.property(pace, pauses, fc.integer({ min: 0, max: 1e9 }), (limit, waits, startMs) => {
        let nowMs = startMs;
        let busyUntil: number | undefined;
        const naive = new NaiveBucket(limit, nowMs);
        for (const wait of waits) {
          nowMs += wait;
          const verdict = askPace(busyUntil, nowMs, limit);
          const expected = naive.take(nowMs);
          assert.equal(verdict.allowed, expected.allowed);
          assert.equal(verdict.remaining, Math.floor(expected.tokens + 1e-6));
          assert.ok(Math.abs(verdict.fullAfterMs - ((limit.burst - expected.tokens) * 1000) / limit.perSecond) < 0.01);
          const missing = expected.allowed ? 0 : ((1 - expected.tokens) * 1000) / limit.perSecond;
          assert.ok(Math.abs(verdict.retryAfterMs - missing) < 0.01);
          busyUntil = verdict.busyUntil;
        }
      }),
      { numRuns: 500 },
    );
  });

  it('lets pass again exactly when it said', () => {
    const pace = { burst: 3, perSecond: 2 };
    let busyUntil: number | undefined;
    for (let i = 0; i < 3; i++) ({ busyUntil } = askPace(busyUntil, 1000, pace));
    const refused = askPace(busyUntil, 1000, pace);
    assert.deepEqual([refused.allowed, refused.retryAfterMs, refused.fullAfterMs], [false, 500, 1500]);
    assert.equal(askPace(refused.busyUntil, 1499, pace).allowed, false);
    assert.equal(askPace(refused.busyUntil, 1500, pace).allowed, true);
  });

  it('does not charge for a refusal', () => {
    const pace = { burst: 1, perSecond: 1 };
    let { busyUntil } = askPace(undefined, 0, pace);
    for (let i = 0; i < 100; i++) ({ busyUntil } = askPace(busyUntil, 500, pace));
    assert.equal(askPace(busyUntil, 1000, pace).allowed, true);
  });

  it('loses nothing of a long burst to floating point', () => {
    for (const perSecond of [3, 7, 0.3, 99_999]) {
      const pace = { burst: 10_000, perSecond };
      let busyUntil: number | undefined;
      let allowed = 0;
      for (let i = 0; i < 10_050; i++) {
        const verdict = askPace(busyUntil, 123_456.789, pace);
        busyUntil = verdict.busyUntil;
        if (verdict.allowed) allowed++;
      }
      assert.equal(allowed, 10_000);
    }
  });
});

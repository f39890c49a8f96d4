import assert from 'node:assert/strict';
import { MemoryCounters, type Rate } from './counters-memory.ts';

const DAY_MS = 86_400_000;
const MIDNIGHT = Date.UTC(2026, 0, 1);

function counters() {
  const clock = { wallMs: MIDNIGHT + 3_600_000, elapsedMs: 0 };
  const memory = new MemoryCounters({ now: () => clock.wallMs, elapsedMs: () => clock.elapsedMs });
  const pass = (ms: number) => {
    clock.wallMs += ms;
    clock.elapsedMs += ms;
  };
  return { clock, pass, take: (rate: Rate, key = 'k') => memory.take(key, rate) };
}

const quick = { burst: 1000, perSecond: 1000 };

describe('the counters', () => {
  it('refuse by pace, and say when to come again and when all is free', () => {
    const { take, pass } = counters();
    const rate = { burst: 2, perSecond: 1, perDay: 100 };
    assert.deepEqual(take(rate), { refusedBy: undefined, limit: 2, remaining: 1, resetMs: 1000, retryAfterMs: 0 });
    assert.deepEqual(take(rate), { refusedBy: undefined, limit: 2, remaining: 0, resetMs: 2000, retryAfterMs: 0 });
    assert.deepEqual(take(rate), { refusedBy: 'pace', limit: 2, remaining: 0, resetMs: 2000, retryAfterMs: 1000 });
    pass(1000);
    assert.equal(take(rate).refusedBy, undefined);
  });

  it('refuse by quota until midnight UTC', () => {
    const { take, pass } = counters();
    const rate = { ...quick, perDay: 2 };
    const untilMidnight = DAY_MS - 3_600_000;
    const told = { limit: 2, resetMs: untilMidnight };
    assert.deepEqual(take(rate), { refusedBy: undefined, ...told, remaining: 1, retryAfterMs: 0 });
    assert.deepEqual(take(rate), { refusedBy: undefined, ...told, remaining: 0, retryAfterMs: 0 });
    assert.deepEqual(take(rate), { refusedBy: 'quota', ...told, remaining: 0, retryAfterMs: untilMidnight });
    pass(untilMidnight - 1);
    assert.equal(take(rate).refusedBy, 'quota');
    pass(1);
    assert.deepEqual(take(rate).refusedBy, undefined);
    assert.deepEqual(take(rate).remaining, 0);
    assert.deepEqual(take(rate).refusedBy, 'quota');
  });

  it('give out no second quota when the clock is set back over midnight, and say truly when the next one begins', () => {
    const { take, clock } = counters();
    const rate = { ...quick, perDay: 1 };
    take(rate);
    clock.wallMs = MIDNIGHT - 1000;
    assert.equal(take(rate).refusedBy, 'quota');
    clock.wallMs = MIDNIGHT + DAY_MS - 1;
    assert.equal(take(rate).refusedBy, 'quota');
    clock.wallMs = MIDNIGHT + DAY_MS;
    assert.equal(take(rate).refusedBy, undefined);
  });

  it('say when the next quota begins, also when the clock was set back over midnight', () => {
    const { take, clock } = counters();
    const rate = { ...quick, perDay: 1 };
    take(rate);
    clock.wallMs = MIDNIGHT - 1000;
    assert.equal(take(rate).retryAfterMs, DAY_MS + 1000);
  });

  it('give nobody a fresh burst when the wall clock is set', () => {
    const { take, clock } = counters();
    const rate = { burst: 1, perSecond: 1, perDay: 1e9 };
    take(rate);
    clock.wallMs += 3_600_000;
    assert.equal(take(rate).refusedBy, 'pace');
  });

  it('charge neither limit for what the other refused', () => {
    const byPace = counters();
    const rate = { burst: 1, perSecond: 1, perDay: 2 };
    byPace.take(rate);
    for (let i = 0; i < 10; i++) assert.equal(byPace.take(rate).refusedBy, 'pace');
    byPace.pass(1000);
    assert.equal(byPace.take(rate).refusedBy, undefined);

    const byQuota = counters();
    const once = { burst: 2, perSecond: 0.001, perDay: 1 };
    byQuota.take(once);
    for (let i = 0; i < 10; i++) assert.equal(byQuota.take(once).refusedBy, 'quota');
    assert.equal(byQuota.take({ ...once, perDay: 2 }).refusedBy, undefined);
  });

  it('tell of the limit that is nearer', () => {
    const { take } = counters();
    assert.equal(take({ burst: 10, perSecond: 1, perDay: 5 }).limit, 5);
    assert.equal(take({ burst: 10, perSecond: 1, perDay: 500 }, 'other').limit, 10);
    assert.equal(take({ burst: 10, perSecond: 1 }, 'no quota').limit, 10);
  });

  it('count each key for itself', () => {
    const { take } = counters();
    const rate = { burst: 1, perSecond: 1, perDay: 1 };
    assert.equal(take(rate, 'p client a').refusedBy, undefined);
    assert.equal(take(rate, 'p client b').refusedBy, undefined);
    assert.notEqual(take(rate, 'p client a').refusedBy, undefined);
  });
});

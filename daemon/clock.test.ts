import assert from 'node:assert/strict';
import { ClockOffset } from './clock.ts';

const HOUR = 3_600_000;
const NOON = 1_767_268_800_000;

function clockAt(start = NOON) {
  const times = { wall: start, elapsed: 1000 };
  const clock = new ClockOffset(
    () => times.wall,
    () => times.elapsed,
  );
  const pass = (ms: number, slept = 0) => {
    times.wall += ms + slept;
    times.elapsed += ms;
  };
  return { clock, times, pass };
}

describe('the offset of the clock', () => {
  it('is nothing until the broker has said what time it is', () => {
    assert.equal(clockAt().clock.nowSeconds(), NOON / 1000);
  });

  for (const hours of [-24, -23, -1, 1, 23, 24]) {
    it(`is learnt from the middle of the exchange, ${hours} h away`, () => {
      const { clock } = clockAt();
      assert.ok(clock.learn(String(NOON + hours * HOUR), { sentAt: NOON - 100, answeredAt: NOON + 100 }));
      assert.equal(clock.offsetMs, hours * HOUR);
      assert.equal(clock.nowSeconds(), NOON / 1000 + hours * 3600);
    });
  }

  it('never runs far ahead of the broker, however slow the exchange was', () => {
    const { clock } = clockAt();
    // The broker looked at its clock at the very end of the 40 s; by the middle we would be 20 s ahead of it.
    clock.learn(String(NOON), { sentAt: NOON - 40_000, answeredAt: NOON });
    assert.equal(clock.offsetMs, 4000);
  });

  for (const time of [
    '',
    'soon',
    '-5',
    '1e12',
    ' 1767268800000',
    String(NOON + 24 * HOUR + 1),
    String(NOON - 25 * HOUR),
  ]) {
    it(`does not believe ${JSON.stringify(time)}`, () => {
      const { clock } = clockAt();
      assert.equal(clock.learn(time, { sentAt: NOON, answeredAt: NOON }), false);
      assert.equal(clock.offsetMs, 0);
    });
  }

  it('is kept while time passes, and forgotten after a sleep or when the clock is set', () => {
    for (const slept of [10_000, -10_000]) {
      const { clock, pass } = clockAt();
      clock.learn(String(NOON + HOUR), { sentAt: NOON, answeredAt: NOON });
      pass(5 * HOUR);
      assert.equal(clock.hasJumped(), false);
      pass(1000, 500);
      assert.equal(clock.hasJumped(), false, 'small corrections are no jump');
      assert.equal(clock.offsetMs, HOUR);
      pass(1000, slept);
      assert.equal(clock.hasJumped(), true);
      assert.equal(clock.offsetMs, 0);
      assert.equal(clock.hasJumped(), false, 'once');
    }
  });
});

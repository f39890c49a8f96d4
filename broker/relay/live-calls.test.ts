import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { LiveCalls } from './live-calls.ts';

const STOPPING = new ApiError('broker_stopping');

describe('the calls under way', () => {
  for (const [which, order] of [
    ['none has left', []],
    ['the first has left', [0]],
    ['the last has left', [3]],
    ['they left in the order they came', [0, 1, 2]],
    ['they left the other way round', [3, 2, 1]],
    ['one has left twice', [1, 1]],
    ['all have left', [2, 0, 3, 1]],
  ] as const) {
    it(`are ended, and no other, when ${which}`, () => {
      const live = new LiveCalls();
      const ended: number[] = [];
      const leave = [0, 1, 2, 3].map((name) =>
        live.enter({ keyid: 'k', endNow: (reason) => ended.push(reason === STOPPING ? name : NaN) }),
      );
      for (const name of order) leave[name]!();
      for (const { endNow } of live) endNow(STOPPING);
      assert.deepEqual(
        ended.toSorted((a, b) => a - b),
        [0, 1, 2, 3].filter((name) => !(order as readonly number[]).includes(name)),
      );
    });
  }

  it('are all ended though each leaves as it is ended', () => {
    const live = new LiveCalls();
    const ended: number[] = [];
    const leave = [0, 1, 2, 3].map((name) =>
      live.enter({
        keyid: 'k',
        endNow: () => {
          ended.push(name);
          leave[name]!();
        },
      }),
    );
    for (const { endNow } of live) endNow(STOPPING);
    assert.equal(live.size, 0);
    assert.deepEqual(ended, [0, 1, 2, 3]);
  });

  it('that have left are gone with the next small collection, and are not carried into the old generation', () => {
    // A collection of the whole heap that is under way at the same time carries everything along; it is not for ever.
    const held = Math.min(...[1, 2, 3, 4, 5].map(callsHeld));
    assert.ok(held < 800, `${Math.round(held)} calls are held`);
  });
});

/** How many calls are held in memory when 16 are under way and 3200 have been. */
function callsHeld(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options?: { type: 'minor' }) => void;
  const live = new LiveCalls();
  let leave = Array.from({ length: 16 }, () => live.enter({ keyid: 'k', endNow: () => {} }));
  collect();
  collect();
  const before = process.memoryUsage().heapUsed;
  for (let round = 0; round < 200; round++) {
    leave = leave.map((leaveNow) => {
      const kilobytes8 = Array.from({ length: 1000 }, () => round);
      const leaveNext = live.enter({ keyid: 'k', endNow: () => void kilobytes8.length });
      leaveNow();
      return leaveNext;
    });
    collect({ type: 'minor' });
  }
  return (process.memoryUsage().heapUsed - before) / 8000;
}

import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { Watch } from './watch.ts';

const elapsedMs = () => performance.now();

/** A watch over deadlines that are looked up in turn, and the times of its looks since it began. */
function watchOver(...deadlines: number[]) {
  const beganMs = elapsedMs();
  const looks: number[] = [];
  const watch = new Watch({
    elapsedMs,
    look: (nowMs) => {
      looks.push(nowMs - beganMs);
      return beganMs + (deadlines.shift() ?? Infinity);
    },
  });
  return { watch, looks, lookBy: (ms: number) => watch.lookBy(beganMs + ms) };
}

describe('the watch', () => {
  it('looks when it is time, and again when it was told to', async () => {
    const { looks, lookBy } = watchOver(60, 90);
    lookBy(30);
    await setTimeout(200);
    assert.equal(looks.length, 3);
    // A timer may fire a millisecond before its time, and the clock it is held against is another one.
    for (const [i, dueMs] of [30, 60, 90].entries()) assert.ok(looks[i]! > dueMs - 2, `${looks[i]} for ${dueMs}`);
  });

  it('is not told of deadlines that move away, and finds out by itself', async () => {
    const { looks, lookBy } = watchOver(80);
    lookBy(20);
    for (let i = 0; i < 1000; i++) lookBy(80 + i);
    await setTimeout(150);
    assert.equal(looks.length, 2);
  });

  it('looks earlier when a deadline comes nearer, and not at the one before', async () => {
    const { looks, lookBy } = watchOver();
    lookBy(10_000);
    lookBy(60);
    lookBy(20);
    await setTimeout(120);
    assert.equal(looks.length, 1);
    assert.ok(looks[0]! < 100, `${looks[0]}`);
  });

  it('looks at once, but never within the call, at a deadline that is past', async () => {
    const { looks, lookBy } = watchOver();
    lookBy(-50);
    assert.deepEqual(looks, []);
    await setTimeout(30);
    assert.equal(looks.length, 1);
  });

  it('has nothing to do without a deadline', async () => {
    const { looks, lookBy } = watchOver();
    lookBy(Infinity);
    lookBy(10);
    await setTimeout(40);
    assert.equal(looks.length, 1);
    lookBy(60);
    await setTimeout(60);
    assert.equal(looks.length, 2);
  });

  it('looks no more once it is stopped, not even when told to, or from within a look', async () => {
    const { watch, looks, lookBy } = watchOver();
    lookBy(20);
    watch.stop();
    lookBy(20);
    let inside = 0;
    const stopping = new Watch({
      elapsedMs,
      look: (nowMs) => {
        inside++;
        stopping.stop();
        return nowMs + 1;
      },
    });
    stopping.lookBy(elapsedMs() + 10);
    await setTimeout(60);
    assert.deepEqual([looks.length, inside], [0, 1]);
  });
});

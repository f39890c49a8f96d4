import assert from 'node:assert/strict';
import { judge, type Outcome } from './goals.ts';
import type { Standing, Sample } from './rounds.ts';

describe('the goals', () => {
  const direct = entrant('direct', [{ oneP50Us: 20 }, { oneP50Us: 40 }]);
  const portkey = entrant('portkey', [
    { cpuUs: 600, oneP50Us: 520 },
    { cpuUs: 900, oneP50Us: 540 },
  ]);

  it('are held against the ratio of each round, not of the medians', () => {
    const broker = entrant('broker', [{ cpuUs: 100 }, { cpuUs: 300 }]);
    assert.deepEqual(goal('G1', judge([broker, portkey], direct)).measured, { median: 4.5, min: 3, max: 6 });
  });

  it('take the mock’s own latency off before comparing', () => {
    const broker = entrant('broker', [{ oneP50Us: 120 }, { oneP50Us: 140 }]);
    assert.deepEqual(goal('G8', judge([broker, portkey], direct)).measured, { median: 0.2, min: 0.2, max: 0.2 });
  });

  for (const [cpuUs, meetsGate, meetsTarget] of [
    [100, true, true],
    [140, true, false],
    [151, false, false],
  ] as const) {
    it(`${meetsGate ? 'are kept' : 'are missed'} by a broker of ${cpuUs} µs beside a gateway of 600`, () => {
      const outcome = goal('G1', judge([entrant('broker', [{ cpuUs }]), portkey], direct));
      assert.deepEqual([outcome.meetsGate, outcome.meetsTarget], [meetsGate, meetsTarget]);
    });
  }

  it('compare what was measured in some rounds only', () => {
    const broker = entrant('broker', [{ cpuUs: 1, slowMb: 150 }, { cpuUs: 1 }]);
    const other = entrant('portkey', [{ cpuUs: 5, slowMb: 300 }, { cpuUs: 5 }]);
    const [ratio] = judge([broker, other], direct).filter(({ id }) => id === 'G13');
    assert.deepEqual(ratio?.measured, { median: 0.5, min: 0.5, max: 0.5 });
  });

  for (const [figure, value, meetsGate, meetsTarget] of [
    ['slowStreamKb', 56, true, true],
    ['slowStreamKb', 80, true, false],
    ['slowStreamKb', 81, false, false],
    ['crashes', 0, true, true],
    ['crashes', 1, false, false],
    ['wedged', 0, true, true],
    ['wedged', 1, false, false],
  ] as const) {
    it(`without a second candidate ${meetsGate ? 'are kept' : 'are missed'} by ${figure} ${value}`, () => {
      const outcomes = judge([entrant('broker', [{ [figure]: value }])], direct);
      const outcome = outcomes.find((found) => found.figure === figure);
      assert.deepEqual(
        [outcome?.measured, outcome?.meetsGate, outcome?.meetsTarget],
        [{ median: value, min: value, max: value }, meetsGate, meetsTarget],
      );
    });
  }

  it('are not met by what was not measured, or failed on the way', () => {
    const failed = { ...entrant('broker', [{ cpuUs: 1 }]), failed: 'answered 500' };
    for (const outcome of [...judge([failed, portkey], direct), ...judge([portkey], direct)]) {
      assert.deepEqual([outcome.measured, outcome.meetsGate], [undefined, false]);
    }
  });
});

function entrant(name: string, samples: Partial<Sample>[]): Standing {
  return { name, samples, failed: undefined };
}

function goal(id: string, outcomes: readonly Outcome[]): Outcome {
  const found = outcomes.find((outcome) => outcome.id === id);
  assert(found !== undefined);
  return found;
}

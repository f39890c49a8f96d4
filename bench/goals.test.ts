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
    assert.deepEqual(goal('G1', judge([broker, portkey], direct)).ratio, { median: 4.5, min: 3, max: 6 });
  });

  it('take the mock’s own latency off before comparing', () => {
    const broker = entrant('broker', [{ oneP50Us: 120 }, { oneP50Us: 140 }]);
    assert.deepEqual(goal('G8', judge([broker, portkey], direct)).ratio, { median: 0.2, min: 0.2, max: 0.2 });
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

  it('are not met by what was not measured, or failed on the way', () => {
    const failed = { ...entrant('broker', [{ cpuUs: 1 }]), failed: 'answered 500' };
    for (const outcome of [...judge([failed, portkey], direct), ...judge([portkey], direct)]) {
      assert.deepEqual([outcome.ratio, outcome.meetsGate], [undefined, false]);
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

import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { isInWindow, lastValidSecond } from '@sallyport/protocol/profile.ts';
import { MemoryReplayStore, type LastStop } from './replay-memory.ts';
import type { Claim } from './replay.ts';

const T = 1_767_225_600;
const AFTER_CLEAN_STOP: LastStop = { snapshot: { fence: -1, droppedUpTo: -1, live: [] } };

function store(settings: Partial<ConstructorParameters<typeof MemoryReplayStore>[0]> = {}) {
  return new MemoryReplayStore({ nowSeconds: T, last: AFTER_CLEAN_STOP, ...settings });
}

function use(nonce: string, more: Partial<Claim> = {}): Claim {
  const { created = T, nowSeconds = T, keyid = 'desktop', lastSecond = created + 65 } = more;
  return { keyid, nonce, created, nowSeconds, lastSecond };
}

describe('the memory of used signatures', () => {
  it('takes a nonce once', () => {
    const replay = store();
    assert.deepEqual(replay.claim(use('a')), { is: 'fresh' });
    assert.deepEqual(replay.claim(use('a')), { is: 'used' });
    assert.deepEqual(replay.claim(use('b')), { is: 'fresh' });
  });

  it('does not mix up the nonces of two keys', () => {
    const replay = store();
    assert.deepEqual(replay.claim(use('a', { keyid: 'desktop' })), { is: 'fresh' });
    assert.deepEqual(replay.claim(use('a', { keyid: 'laptop' })), { is: 'fresh' });
    assert.deepEqual(replay.claim(use('a', { keyid: 'laptop' })), { is: 'used' });
  });

  it('remembers a use until the last second of its signature, and drops it six seconds later', () => {
    const replay = store();
    const lastSecond = T + 65;
    replay.claim(use('a', { lastSecond }));
    for (let nowSeconds = T; nowSeconds <= lastSecond + 5; nowSeconds++) {
      assert.deepEqual(replay.claim(use('a', { lastSecond, nowSeconds })), { is: 'used' });
    }
    assert.equal(replay.snapshot().live.length, 1);
    replay.claim(use('b', { created: T + 71, nowSeconds: lastSecond + 6 }));
    assert.deepEqual(
      replay.snapshot().live.map(([, nonce]) => nonce),
      ['b'],
    );
  });

  it('refuses what it may have dropped when the clock is set back', () => {
    const replay = store();
    replay.claim(use('a', { lastSecond: T + 65 }));
    replay.claim(use('b', { created: T + 200, nowSeconds: T + 200 }));
    assert.deepEqual(replay.claim(use('a', { nowSeconds: T })), { is: 'forgotten' });
    assert.deepEqual(replay.claim(use('never seen', { nowSeconds: T })), { is: 'forgotten' });
    assert.deepEqual(replay.claim(use('newer', { created: T + 1, nowSeconds: T })), { is: 'fresh' });
  });

  it('still sweeps after the clock was far ahead for a moment', () => {
    const replay = store({ mostPerKey: 1 });
    replay.claim(use('ahead', { created: T + 3600, nowSeconds: T + 3600, keyid: 'other' }));
    assert.deepEqual(replay.claim(use('a')), { is: 'fresh' });
    assert.deepEqual(replay.claim(use('b', { created: T + 100, nowSeconds: T + 100 })), { is: 'fresh' });
  });

  it('refuses a key that has too many in flight, and only that key, until the first may be dropped', () => {
    const replay = store({ mostPerKey: 2 });
    replay.claim(use('a'));
    replay.claim(use('b', { lastSecond: T + 90 }));
    assert.deepEqual(replay.claim(use('c')), { is: 'crowded', seconds: 71 });
    assert.deepEqual(replay.claim(use('a')), { is: 'used' });
    assert.deepEqual(replay.claim(use('c', { keyid: 'laptop' })), { is: 'fresh' });
    assert.deepEqual(replay.claim(use('c', { created: T + 70, nowSeconds: T + 70 })), { is: 'crowded', seconds: 1 });
    assert.deepEqual(replay.claim(use('c', { created: T + 71, nowSeconds: T + 71 })), { is: 'fresh' });
  });

  it('refuses everyone when it is full, and evicts nothing that is live', () => {
    const replay = store({ most: 2 });
    replay.claim(use('a', { keyid: 'one' }));
    replay.claim(use('a', { keyid: 'two' }));
    assert.deepEqual(replay.claim(use('a', { keyid: 'three' })), { is: 'full', seconds: 71 });
    assert.deepEqual(replay.claim(use('a', { keyid: 'one' })), { is: 'used' });
    assert.deepEqual(replay.claim(use('a', { keyid: 'two' })), { is: 'used' });
    assert.deepEqual(replay.claim(use('a', { keyid: 'three', created: T + 71, nowSeconds: T + 71 })), { is: 'fresh' });
  });

  describe('after a crash', () => {
    it('takes nothing until no signature of the last run can be alive unseen', () => {
      const replay = store({ last: { lastSeen: T - 1 } });
      assert.deepEqual(replay.claim(use('a', { created: T + 5 })), { is: 'fenced', seconds: 6 });
      assert.equal(replay.fencedForMs(T * 1000), 6000);
      assert.equal(replay.fencedForMs(T * 1000 + 5999), 1);
      assert.equal(replay.fencedForMs(T * 1000 + 6000), 0);
      const nowSeconds = T + 6;
      assert.deepEqual(replay.claim(use('a', { created: T + 5, nowSeconds })), { is: 'forgotten' });
      assert.deepEqual(replay.claim(use('a', { created: T + 6, nowSeconds })), { is: 'fresh' });
    });

    it('puts the fence behind the clock of the last run where that was ahead of ours', () => {
      const replay = store({ last: { lastSeen: T + 30 } });
      assert.deepEqual(replay.claim(use('a', { created: T + 20, nowSeconds: T + 20 })), { is: 'fenced', seconds: 17 });
      const nowSeconds = T + 37;
      assert.deepEqual(replay.claim(use('a', { created: T + 36, nowSeconds })), { is: 'forgotten' });
      assert.deepEqual(replay.claim(use('a', { created: T + 37, nowSeconds })), { is: 'fresh' });
    });

    it('keeps its fence when it does not know when the last run was seen', () => {
      const replay = store({ last: { lastSeen: undefined } });
      assert.deepEqual(replay.claim(use('a')), { is: 'fenced', seconds: 6 });
    });
  });

  describe('after a clean stop', () => {
    it('knows every use of the last run, and waits for nothing', () => {
      const before = store();
      for (const keyid of ['one', 'two']) for (const nonce of ['a', 'b']) before.claim(use(nonce, { keyid }));
      const after = store({ last: { snapshot: before.snapshot() } });
      assert.equal(after.fencedForMs(T * 1000), 0);
      for (const keyid of ['one', 'two']) {
        for (const nonce of ['a', 'b']) assert.deepEqual(after.claim(use(nonce, { keyid })), { is: 'used' });
        assert.deepEqual(after.claim(use('c', { keyid })), { is: 'fresh' });
      }
    });

    it('counts what it took up against the limit of its key', () => {
      const before = store({ mostPerKey: 1 });
      before.claim(use('a'));
      const after = store({ mostPerKey: 1, last: { snapshot: before.snapshot() } });
      assert.equal(after.claim(use('b')).is, 'crowded');
      assert.equal(after.claim(use('b', { created: T + 71, nowSeconds: T + 71 })).is, 'fresh');
    });

    it('hands on the fence that it stood behind itself', () => {
      const before = store({ last: { lastSeen: T } });
      const after = store({ nowSeconds: T + 1, last: { snapshot: before.snapshot() } });
      assert.deepEqual(after.claim(use('a', { nowSeconds: T + 1 })), { is: 'fenced', seconds: 6 });
      assert.deepEqual(after.claim(use('a', { created: T + 6, nowSeconds: T + 7 })), { is: 'forgotten' });
    });

    it('hands on what it has dropped', () => {
      const before = store();
      before.claim(use('a'));
      before.claim(use('b', { created: T + 200, nowSeconds: T + 200 }));
      const after = store({ last: { snapshot: before.snapshot() } });
      assert.deepEqual(after.claim(use('a')), { is: 'forgotten' });
    });
  });

  it('never takes one signature twice, whatever clocks, crashes and clean stops lie in between', () => {
    type Step =
      | { does: 'sign'; agedSeconds: number; lifetime: number }
      | { does: 'repeat'; which: number }
      | { does: 'wait'; seconds: number }
      | { does: 'set the clock'; aheadSeconds: number }
      | { does: 'restart'; isClean: boolean; aheadSeconds: number };
    // Clocks that are all between 0 and 30 s ahead of the true time are up to 30 s apart, in either direction.
    const aheadSeconds = fc.integer({ min: 0, max: 30 });
    const step: fc.Arbitrary<Step> = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({
          does: fc.constant('sign' as const),
          agedSeconds: fc.integer({ min: -6, max: 40 }),
          lifetime: fc.integer({ min: 1, max: 300 }),
        }),
      },
      { weight: 6, arbitrary: fc.record({ does: fc.constant('repeat' as const), which: fc.nat() }) },
      {
        weight: 3,
        arbitrary: fc.record({ does: fc.constant('wait' as const), seconds: fc.integer({ min: 0, max: 90 }) }),
      },
      { weight: 1, arbitrary: fc.record({ does: fc.constant('set the clock' as const), aheadSeconds }) },
      {
        weight: 2,
        arbitrary: fc.record({ does: fc.constant('restart' as const), isClean: fc.boolean(), aheadSeconds }),
      },
    );
    let taken = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), (steps) => {
        let trueTime = T;
        let ahead = 0;
        let lastSeen = T;
        const now = () => trueTime + ahead;
        let replay = store();
        const signatures: { nonce: string; created: number; expires: number; isTaken: boolean }[] = [];
        const send = (index: number) => {
          const signature = signatures[index];
          if (signature === undefined || !isInWindow(signature, now())) return;
          const lastSecond = lastValidSecond(signature);
          const { nonce, created } = signature;
          const { is } = replay.claim({ keyid: 'desktop', nonce, created, lastSecond, nowSeconds: now() });
          if (is !== 'fresh') return;
          assert.ok(!signature.isTaken, `${nonce} was taken twice`);
          signature.isTaken = true;
          taken++;
        };
        for (const one of steps) {
          if (one.does === 'sign') {
            const created = now() - one.agedSeconds;
            signatures.push({
              nonce: `n${signatures.length}`,
              created,
              expires: created + one.lifetime,
              isTaken: false,
            });
            send(signatures.length - 1);
          } else if (one.does === 'repeat') {
            send(one.which % Math.max(1, signatures.length));
          } else if (one.does === 'wait') {
            trueTime += one.seconds;
          } else if (one.does === 'set the clock') {
            ahead = one.aheadSeconds;
          } else {
            const snapshot = replay.snapshot();
            ahead = one.aheadSeconds;
            replay = store({ nowSeconds: now(), last: one.isClean ? { snapshot } : { lastSeen } });
          }
          lastSeen = Math.max(lastSeen, now());
        }
      }),
      { numRuns: 3000 },
    );
    assert.ok(taken > 3000, 'nothing was tried');
  });
});

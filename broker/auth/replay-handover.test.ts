import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';
import * as fc from 'fast-check';
import { isInWindow, lastValidSecond } from '@sallyport/protocol/profile.ts';
import { DataFolderError, openDataFolder } from '../store/data-folder.ts';
import { EMPTY_SNAPSHOT, openReplay, SNAPSHOT } from './replay-handover.ts';
import type { Claim } from './replay.ts';

const T = 1_767_225_600;

/** A broker's part of it: a real folder, a clock that is set by hand, and the second hand of the note-taking with it. */
class Run {
  readonly #folder;
  readonly #opened;
  #isOver = false;
  readonly warnings: string[] = [];

  constructor(path: string, now: () => number) {
    mock.timers.enable({ apis: ['setInterval'] });
    this.#folder = openDataFolder(path);
    try {
      this.#opened = openReplay({
        folder: this.#folder,
        now: () => now() * 1000,
        warn: (what) => void this.warnings.push(what),
      });
    } catch (error) {
      this.crash();
      throw error;
    }
  }

  get replay() {
    return this.#opened!.replay;
  }

  stop(): void {
    this.#opened!.handOver();
    this.crash();
  }

  /** What is left when the process ends: the files, and no lock. */
  crash(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    mock.timers.reset();
    this.#folder.close();
  }
}

describe('the memory of used signatures from one run to the next', () => {
  let path: string;
  let seconds: number;
  let running: Run | undefined;
  const start = () => (running = new Run(path, () => seconds));
  const use = (nonce: string, created = seconds): Claim => ({
    keyid: 'desktop',
    nonce,
    created,
    lastSecond: created + 65,
    nowSeconds: seconds,
  });
  const passSecond = () => {
    seconds++;
    mock.timers.tick(1000);
  };

  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), 'sallyport-replay-'));
    seconds = T;
  });
  afterEach(() => {
    running?.crash();
    running = undefined;
    rmSync(path, { recursive: true, force: true });
  });

  // A first start cannot be told from a restart with an empty folder, so it waits as one after a crash does.
  it('waits on the first start of all', () => {
    assert.equal(start().replay.fencedForMs(seconds * 1000), 6000);
  });

  it('waits for nothing where a snapshot of a broker that never accepted anything was left', () => {
    writeFileSync(join(path, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT));
    const { replay, warnings } = start();
    assert.equal(replay.fencedForMs(seconds * 1000), 0);
    assert.deepEqual(replay.claim(use('a')), { is: 'fresh' });
    assert.deepEqual(warnings, []);
  });

  it('knows after a clean stop what was used, and waits no longer than before', () => {
    writeFileSync(join(path, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT));
    const first = start();
    first.replay.claim(use('a'));
    first.stop();
    const second = start();
    assert.equal(second.replay.fencedForMs(seconds * 1000), 0);
    assert.deepEqual(second.replay.claim(use('a')), { is: 'used' });
    assert.deepEqual(second.replay.claim(use('b')), { is: 'fresh' });
  });

  it('takes a snapshot up once: after a crash it would hide what was used in between', () => {
    writeFileSync(join(path, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT));
    const first = start();
    assert.ok(!existsSync(join(path, SNAPSHOT)));
    first.replay.claim(use('a'));
    first.crash();
    const second = start();
    assert.equal(second.replay.claim(use('a')).is, 'fenced');
    seconds += 7;
    assert.deepEqual(second.replay.claim(use('a', T)), { is: 'forgotten' });
    assert.deepEqual(second.replay.claim(use('b')), { is: 'fresh' });
  });

  for (const [what, text] of [
    ['half a file', '{"fence":-1,"dropp'],
    ['an empty file', ''],
    ['a member that is missing', '{"fence":-1,"live":[]}'],
    ['a member that is not known', '{"fence":-1,"droppedUpTo":-1,"live":[],"more":1}'],
    ['a use without its nonce', '{"fence":-1,"droppedUpTo":-1,"live":[["desktop",1767225600]]}'],
    ['a second that is none', '{"fence":-1,"droppedUpTo":null,"live":[]}'],
  ] as const) {
    it(`starts as after a crash, and says so, from ${what}`, () => {
      writeFileSync(join(path, SNAPSHOT), text);
      const { replay, warnings } = start();
      assert.equal(replay.fencedForMs(seconds * 1000), 6000);
      assert.equal(warnings.length, 1);
      assert.match(warnings[0]!, /cannot be read/);
    });
  }

  it('notes each second that it lives', () => {
    start();
    assert.equal(readFileSync(join(path, 'last-seen'), 'utf8'), String(T));
    passSecond();
    assert.equal(readFileSync(join(path, 'last-seen'), 'utf8'), String(T + 1));
  });

  it('stands after a crash behind the clock of the run before, where that was ahead', () => {
    start().crash();
    seconds = T - 20;
    assert.equal(start().replay.fencedForMs(seconds * 1000), 27_000);
  });

  for (const [what, text] of [
    ['bytes that a power cut left', '\0\0\0\0'],
    ['words', 'yesterday'],
  ] as const) {
    it(`still stands behind a fence when the note of the time holds ${what}`, () => {
      writeFileSync(join(path, 'last-seen'), text);
      const { replay } = start();
      assert.equal(replay.claim(use('a')).is, 'fenced');
      seconds += 6;
      assert.deepEqual(replay.claim(use('a', T)), { is: 'forgotten' });
    });
  }

  it('goes on, and says so, when the time cannot be noted', () => {
    const { warnings } = start();
    rmSync(path, { recursive: true });
    passSecond();
    assert.deepEqual(warnings, ['the time could not be noted in the data folder']);
  });

  it('does not start ten minutes or more behind the run before, and says what to do', () => {
    start().crash();
    seconds = T - 600;
    assert.equal(start().replay.fencedForMs(seconds * 1000), 607_000);
    running!.crash();
    running = undefined;
    writeFileSync(join(path, 'last-seen'), String(T));
    seconds = T - 601;
    assert.throws(start, (error: Error) => {
      assert.ok(error instanceof DataFolderError);
      assert.match(error.message, /clock says 2025-12-31T23:49:59\.000Z, but .* running at 2026-01-01T00:00:00\.000Z/);
      assert.match(error.message, /Set the clock; .*delete the file last-seen/);
      return true;
    });
  });

  it('does not wait a year, in silence, for a fence that a wrong clock has handed on', () => {
    seconds = T + 365 * 86_400;
    start().stop();
    seconds = T;
    assert.throws(start, DataFolderError);
  });

  it('remembers over two crashes the later clock, not the last one', () => {
    const first = start();
    seconds += 6;
    assert.deepEqual(first.replay.claim(use('a')), { is: 'fresh' });
    mock.timers.tick(1000);
    const created = seconds;
    first.crash();
    seconds = created - 30;
    start().crash();
    const third = start();
    seconds = created;
    assert.notEqual(third.replay.claim(use('a', created)).is, 'fresh');
  });

  it('remembers what it took in the second in which it crashed, though the clock was then set back', () => {
    writeFileSync(join(path, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT));
    const first = start();
    seconds = T + 30;
    assert.deepEqual(first.replay.claim(use('a')), { is: 'fresh' });
    first.crash();
    seconds = T + 1;
    const second = start();
    seconds = T + 31;
    assert.notEqual(second.replay.claim(use('a', T + 30)).is, 'fresh');
  });

  it('never takes one signature twice, whatever clocks, crashes and clean stops lie in between', () => {
    // Clocks that are all between 0 and 30 s ahead of the true time are up to 30 s apart, in either direction.
    const ahead = fc.oneof(fc.constantFrom(0, 30), fc.integer({ min: 0, max: 30 }));
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.tuple(fc.constant('sign' as const), fc.integer({ min: -6, max: 20 })) },
      { weight: 6, arbitrary: fc.tuple(fc.constant('repeat' as const), fc.nat()) },
      { weight: 3, arbitrary: fc.tuple(fc.constant('wait' as const), fc.integer({ min: 0, max: 40 })) },
      { weight: 1, arbitrary: fc.tuple(fc.constant('set the clock' as const), ahead) },
      { weight: 2, arbitrary: fc.tuple(fc.constantFrom('stop' as const, 'crash' as const), ahead) },
    );
    let taken = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => {
        const folder = mkdtempSync(join(path, 'run-'));
        let trueTime = T;
        let aheadBy = 0;
        const now = () => trueTime + aheadBy;
        writeFileSync(join(folder, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT));
        let run = new Run(folder, now);
        const signatures: { nonce: string; created: number; expires: number; isTaken: boolean }[] = [];
        const send = (index: number) => {
          const signature = signatures[index];
          if (signature === undefined || !isInWindow(signature, now())) return;
          const { nonce, created } = signature;
          const lastSecond = lastValidSecond(signature);
          const { is } = run.replay.claim({ keyid: 'desktop', nonce, created, lastSecond, nowSeconds: now() });
          if (is !== 'fresh') return;
          assert.ok(!signature.isTaken, `${nonce} was taken twice`);
          signature.isTaken = true;
          taken++;
        };
        try {
          for (const [does, number] of steps) {
            if (does === 'sign') {
              const created = now() - number;
              signatures.push({ nonce: `n${signatures.length}`, created, expires: created + 60, isTaken: false });
              send(signatures.length - 1);
            } else if (does === 'repeat') {
              send(number % Math.max(1, signatures.length));
            } else if (does === 'wait') {
              trueTime += number;
              mock.timers.tick(1000);
            } else if (does === 'set the clock') {
              aheadBy = number;
            } else {
              run[does]();
              aheadBy = number;
              run = new Run(folder, now);
            }
          }
        } finally {
          run.crash();
          rmSync(folder, { recursive: true });
        }
      }),
      { numRuns: 400 },
    );
    assert.ok(taken > 400, 'nothing was tried');
  });
});

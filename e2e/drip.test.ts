import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { Agent } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import type { Ended, Orders } from './drippers.ts';
import { openWorld, type World } from './world.ts';

const DRIPPERS = 2000;
const SAMPLES = 300;
// Their own hundredths of a second apart, so that a pause of the machine does not hit all of them.
const ASK_EVERY_MS = 10;
const BODY_SECONDS = 4;
// What the edge gives a caller for its headers, and how often it looks.
const HEADERS_MS = 10_000;
const LOOKS_EVERY_MS = 2_000;
// The machine does other things as well: a round in which it did too much of them is measured anew.
const ROUNDS = 3;

describe('callers that drip', function () {
  this.timeout(180_000);
  let world: World;
  let drippers: ChildProcess | undefined;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });

  before(async function () {
    const { hard } = openFilesLimit();
    if (hard < 2 * DRIPPERS) {
      // Node itself has raised the soft limit to the hard one.
      console.log(`      ${2 * DRIPPERS} open files are needed, and ${hard} are allowed (ulimit -Hn)`);
      assert.ok(process.env['CI'] === undefined, 'in CI this must not be left out');
      this.skip();
    }
    world = await openWorld({
      apart: true,
      limits: `limits: { body_bytes: 65536, body_seconds: ${BODY_SECONDS}, address: { burst: 1000000, per_second: 1000000 } }`,
    });
  });
  after(async () => {
    drippers?.kill('SIGKILL');
    agent.destroy();
    await world?.close();
  });

  async function healthyMs(): Promise<number> {
    const one = world.prepare({ body: { model: 'echo', messages: [{ role: 'user', content: 'hello' }] } });
    const began = performance.now();
    assert.equal((await world.deliver(one, agent)).status, 200);
    return performance.now() - began;
  }

  async function sample(forMs = SAMPLES * ASK_EVERY_MS): Promise<number[]> {
    const taken: number[] = [];
    const endMs = performance.now() + forMs;
    while (taken.length < SAMPLES || performance.now() < endMs) {
      taken.push(await healthyMs());
      await setTimeout(ASK_EVERY_MS);
    }
    return taken;
  }

  async function begin(): Promise<void> {
    drippers = fork(new URL('drippers.ts', import.meta.url), { execArgv: [] });
    drippers.send({ port: world.port, authority: world.authority, each: Math.ceil(DRIPPERS / 3) } satisfies Orders);
    await once(drippers, 'message');
  }

  async function end(): Promise<Ended[]> {
    drippers!.send('tell');
    const [ended] = (await once(drippers!, 'message')) as [Ended[]];
    drippers!.kill('SIGKILL');
    await once(drippers!, 'exit');
    return ended;
  }

  it(`do not slow down those who do not, and are answered 408 in time: ${DRIPPERS} connections`, async () => {
    // Both processes become faster with use; that is not to be taken for what the drippers do.
    for (let i = 0; i < 3000; i++) await healthyMs();
    for (let round = 1; ; round++) {
      const before = await sample();
      await begin();
      const during = await sample(HEADERS_MS + 2 * LOOKS_EVERY_MS);
      const ended = await end();
      const after = await sample();

      for (const { kind, status, heldMs } of ended) {
        const [least, most] =
          kind === 'headers'
            ? [HEADERS_MS, HEADERS_MS + 2 * LOOKS_EVERY_MS]
            : [BODY_SECONDS * 1000, BODY_SECONDS * 1000 + 2000];
        assert.equal(status, 408, kind);
        assert.ok(least - 100 < heldMs && heldMs < most, `${kind} held for ${heldMs} ms`);
      }
      const perKind = Object.groupBy(ended, ({ kind }) => kind);
      assert.ok((perKind.headers?.length ?? 0) >= DRIPPERS / 3, 'everyone who dripped headers was ended');
      assert.ok((perKind.body?.length ?? 0) >= DRIPPERS / 3, 'everyone who dripped a body was ended');
      assert.equal(perKind.answers, undefined, 'who does not read small answers is in nobody’s way');

      const slower = percentile(during, 50) / percentile([...before, ...after], 50);
      const figures = Object.entries({ before, during, after }).map(
        ([when, all]) => `${when} ${percentile(all, 50).toFixed(2)} ms (p99 ${percentile(all, 99).toFixed(1)})`,
      );
      const held =
        percentile(
          perKind.headers!.map(({ heldMs }) => heldMs),
          100,
        ) / 1000;
      console.log(
        `      ${DRIPPERS} dripping: p50 ${figures.join(', ')}: ${slower.toFixed(2)} times; headers held for ${held.toFixed(1)} s at most`,
      );
      if (slower <= 1.5) break;
      assert.ok(round < ROUNDS, `the healthy became ${slower} times slower`);
    }
  });
});

function percentile(values: readonly number[], which: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * which) / 100))]!;
}

function openFilesLimit(): { hard: number } {
  const report = process.report.getReport() as { userLimits?: { open_files?: { hard: number | string } } };
  const hard = Number(report.userLimits?.open_files?.hard ?? Infinity);
  return { hard: Number.isNaN(hard) ? Infinity : hard };
}

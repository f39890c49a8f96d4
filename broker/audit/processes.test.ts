import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onEachDatabase } from '../store/databases.test-support.ts';
import type { Appending } from './appender.test-support.ts';
import { auditWorld, EVENT, type AuditWorld } from './audit.test-support.ts';

const KILLS = process.env['PROVE'] === 'full' ? 200 : 10;
const PROGRAM = fileURLToPath(new URL('appender.test-support.ts', import.meta.url));

onEachDatabase('the audit log, with other processes', (fresh) => {
  let world: AuditWorld;
  let children: ChildProcess[];
  beforeEach(() => {
    world = auditWorld(fresh().database);
    children = [];
  });
  afterEach(() => {
    for (const child of children) child.kill('SIGKILL');
    world?.drop();
  });

  function start(asked: Pick<Appending, 'name' | 'acts'> & { hangs?: boolean }) {
    const { place } = fresh();
    const where = place.kind === 'sqlite' ? { file: place.file } : { url: place.url.reveal() };
    const asks: Appending = { ...where, hangs: false, ...asked };
    const child = spawn(process.execPath, [PROGRAM, JSON.stringify(asks)], { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
    return { child, gone: once(child, 'close'), lines: () => printed.split('\n').slice(0, -1) };
  }

  const acts = async () => {
    const rows = await fresh()
      .database.read.selectFrom('migrations')
      .select('name')
      .where('name', 'like', 'p%-%')
      .execute();
    return rows.map(({ name }) => name).toSorted();
  };
  const targets = async () => {
    const rows = await fresh().database.read.selectFrom('audit_entries').select(['n', 'target']).orderBy('n').execute();
    assert.deepEqual(
      rows.map(({ n }) => n),
      rows.map((_, index) => index + 1),
    );
    return rows.map(({ target }) => target).toSorted();
  };

  it('has no gap and no fork when two of them write at once', async function () {
    this.timeout(60_000);
    const writers = [start({ name: 'p1', acts: 100 }), start({ name: 'p2', acts: 100 })];
    const codes = await Promise.all(writers.map(async ({ gone }) => (await gone)[0]));
    assert.deepEqual(codes, [0, 0]);
    const recorded = await targets();
    assert.equal(recorded.length, 200);
    assert.deepEqual(recorded, await acts());
    const { chains, entries, says } = await world.verify();
    assert.deepEqual({ chains, entries, says }, { chains: 1, entries: 200, says: [] });
  });

  it('has nothing of an act whose process was killed between the entry and the commit', async function () {
    this.timeout(60_000);
    const { child, gone, lines } = start({ name: 'p1', acts: 2, hangs: true });
    while (!lines().includes('recorded')) await setTimeout(10);
    child.kill('SIGKILL');
    await gone;
    assert.deepEqual(await acts(), ['p1-0', 'p1-1']);
    assert.deepEqual(await targets(), ['p1-0', 'p1-1']);
    // And whoever comes next is not kept waiting by it.
    await world.record(world.operator, { target: 'p2-0' });
    assert.deepEqual((await world.verify()).says, []);
  });

  it(`has an entry for each act, and no other, when processes are killed at random, ${KILLS} times`, async function () {
    this.timeout(600_000);
    const acknowledged: string[] = [];
    for (let count = 0; count < KILLS; count++) {
      const { child, gone, lines } = start({ name: `p${count}`, acts: 100_000 });
      while (lines().length === 0) await setTimeout(5);
      await setTimeout(randomInt(60));
      child.kill('SIGKILL');
      await gone;
      acknowledged.push(...lines());
    }
    // A server may still be at the last commit of a process that is gone; this act waits its turn behind it.
    await fresh().database.write(async (tx) => {
      await tx.insertInto('migrations').values({ name: 'p-last', applied_at: 1 }).execute();
      await world.operator.record(tx, { ...EVENT, target: 'p-last' });
    });
    const recorded = await targets();
    assert.deepEqual(recorded, await acts());
    const all = new Set(recorded);
    assert.ok(acknowledged.length >= KILLS);
    assert.ok(
      acknowledged.every((name) => all.has(name)),
      'what was acknowledged is there',
    );
    const { entries, says } = await world.verify();
    assert.deepEqual({ entries, says }, { entries: recorded.length, says: [] });
  });
});

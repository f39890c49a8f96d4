import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Secret } from '@sallyport/protocol/secret.ts';
import { openDatabase, type Place } from './database.ts';
import { migrate } from './migrations.ts';
import { startPostgres } from './postgres.test-support.ts';
import { asArguments } from './writer.test-support.ts';

const CYCLES = process.env['PROVE'] === 'full' ? 200 : 10;
const LONGEST_LIFE_MS = 60;
const CYCLE_MS = 10_000;

describe('a process that is killed while it writes', () => {
  it(`loses nothing that it had acknowledged, on sqlite, ${CYCLES} times`, async function () {
    this.timeout(CYCLES * CYCLE_MS);
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-kills-'));
    await killAndLook({ kind: 'sqlite', file: join(folder, 'sallyport.db') }, async () => {});
    rmSync(folder, { recursive: true });
  });

  it(`loses nothing on postgres, ${CYCLES} times, every fifth time together with the server`, async function () {
    this.timeout(CYCLES * CYCLE_MS);
    const server = await startPostgres({ isStrict: true });
    if (server === undefined) return this.skip();
    await killAndLook({ kind: 'postgres', url: new Secret(await server.freshUrl()) }, async (cycle) => {
      if (cycle % 5 !== 0) return;
      await server.killWhole();
      await server.start();
    });
    await server.kill('SIGQUIT');
  });
});

async function killAndLook(place: Place, alsoKill: (cycle: number) => Promise<void>): Promise<void> {
  const first = await openDatabase(place, () => {});
  await migrate(first, Date.now);
  await first.close();
  let acknowledged = 0;
  for (let cycle = 1; cycle <= CYCLES; cycle++) {
    const last = await writeUntilKilled(place, cycle, alsoKill);
    acknowledged += last;
    const database = await openDatabase(place, () => {});
    const ids = (await database.read.selectFrom('devices').select('id').execute()).map(({ id }) => id);
    const keys = await database.read.selectFrom('device_keys').select('device_id as id').execute();
    await database.close();
    const there = new Set(ids);
    for (let n = 1; n <= last; n++)
      assert.ok(there.has(`c${cycle}-${n}`), `c${cycle}-${n} was acknowledged, and is lost`);
    assert.deepEqual(there, new Set(keys.map(({ id }) => id)), 'half of a transaction');
  }
  assert.ok(acknowledged > CYCLES, 'something was written in each life');
  console.log(`      ${CYCLES} kills, ${acknowledged} acknowledged commits, none lost`);
}

async function writeUntilKilled(
  place: Place,
  cycle: number,
  alsoKill: (cycle: number) => Promise<void>,
): Promise<number> {
  const program = join(import.meta.dirname, 'writer.test-support.ts');
  const child = spawn(process.execPath, [program, `c${cycle}`, ...asArguments(place)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = once(child, 'close');
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => void (said += piece));
  await once(child.stdout, 'data');
  await setTimeout(Math.random() * LONGEST_LIFE_MS);
  // First the server, so that the writer is killed by nothing but a broken connection, or first the writer.
  const writerFirst = Math.random() < 0.5;
  if (writerFirst) child.kill('SIGKILL');
  await alsoKill(cycle);
  child.kill('SIGKILL');
  await gone;
  // What stands after the last line break was cut off while it was said.
  const lines = said.split('\n').slice(0, -1);
  return lines.filter((line) => /^\d+$/.test(line)).length;
}

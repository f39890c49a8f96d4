import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Secret } from '@sallyport/protocol/secret.ts';
import type { Database } from './database.ts';
import { onEachDatabase, type FreshDatabase } from './databases.test-support.ts';
import { Envelope } from './envelope.ts';
import { keyId, keyRing } from './key-ring.ts';

const OLD = new Secret(randomBytes(32));
const NEW = new Secret(randomBytes(32));
const place = (row: number) => ({ table: 'invites', column: 'psk_sealed', row: `i${row}` });
const envelopeOf = (...keys: Secret<Buffer>[]) => new Envelope({ ring: keyRing(keys), now: Date.now });

/** Values of which each has a data key of its own: as many as a broker has after hundreds of billions of seals. */
async function sealMany(database: Database, envelope: Envelope, count: number): Promise<string[]> {
  const sealed: string[] = [];
  await database.write(async (tx) => {
    for (let i = 0; i < count; i++) {
      sealed.push(await envelope.seal(tx, place(i), Buffer.from(`value ${i}`)));
      const id = sealed[i]!.split('.')[1]!;
      await tx
        .updateTable('data_keys')
        .set({ uses: 2 ** 28 })
        .where('id', '=', id)
        .execute();
    }
  });
  return sealed;
}

async function opensAll(database: Database, envelope: Envelope, sealed: string[]): Promise<void> {
  for (const [i, one] of sealed.entries()) {
    assert.equal((await envelope.open(database.read, place(i), one)).toString(), `value ${i}`);
  }
}

async function wrappedBy(database: Database, key: Secret<Buffer>): Promise<number> {
  const rows = await database.read.selectFrom('data_keys').select('id').where('kek', '=', keyId(key)).execute();
  return rows.length;
}

/** Another process that hands over, as the command does beside a running broker. */
function startRewrap(at: FreshDatabase['place'], keys: Secret<Buffer>[], pauseMs = 0) {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'rewrap.test-support.ts'), `${pauseMs}`], {
    env: {
      ...process.env,
      ...(at.kind === 'sqlite' ? { DATABASE_FILE: at.file } : { DATABASE_URL: at.url.reveal() }),
      KEYS: keys.map((key) => key.reveal().toString('base64')).join(),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  const output = createInterface(child.stdout).on('line', (line) => void lines.push(line));
  const ended = Promise.all([once(child, 'exit'), once(output, 'close')]).then(([[code, signal]]) => ({
    code,
    signal,
  }));
  return { child, lines, output, ended };
}

onEachDatabase('a new key of the ring', (fresh) => {
  it('takes the place of the old one step by step, and every value opens at each', async () => {
    const { database } = fresh();
    const sealed = await sealMany(database, envelopeOf(OLD), 30);
    const opens = async (...keys: Secret<Buffer>[]) => {
      assert.equal(await envelopeOf(...keys).check(database), undefined);
      await opensAll(database, envelopeOf(...keys), sealed);
    };
    await opens(OLD, NEW);
    assert.equal(await envelopeOf(OLD, NEW).rewrap(database), 0, 'the primary has them all');
    await opens(NEW, OLD);
    assert.equal(await wrappedBy(database, OLD), 30);
    assert.equal(await envelopeOf(NEW, OLD).rewrap(database), 30);
    await opens(NEW, OLD);
    await opens(NEW);
    assert.equal(await wrappedBy(database, OLD), 0);
    assert.match((await envelopeOf(OLD).check(database)) ?? '', new RegExp(keyId(NEW)));
  });

  it('that comes alone too early opens nothing and changes nothing, and the old one given back heals', async () => {
    const { database } = fresh();
    const sealed = await sealMany(database, envelopeOf(OLD), 3);
    const early = envelopeOf(NEW);
    const names = {
      name: 'EnvelopeError',
      message: new RegExp(`^Failed to decrypt data: the encryption key ${keyId(OLD)}`),
    };
    await assert.rejects(early.open(database.read, place(0), sealed[0]!), names);
    assert.equal(await early.rewrap(database), 0);
    assert.match((await early.check(database)) ?? '', names.message);
    assert.equal(await envelopeOf(NEW, OLD).rewrap(database), 3);
    await opensAll(database, envelopeOf(NEW), sealed);
  });

  it('leaves alone what an absent key holds, and takes over the rest', async () => {
    const { database } = fresh();
    const absent = new Secret(randomBytes(32));
    await sealMany(database, envelopeOf(absent), 2);
    const sealed = await sealMany(database, envelopeOf(OLD), 2);
    assert.equal(await envelopeOf(NEW, OLD).rewrap(database), 2);
    await opensAll(database, envelopeOf(NEW), sealed);
    assert.deepEqual(await envelopeOf(NEW, OLD).keys(database), [
      { id: keyId(NEW), isInRing: true, dataKeys: 2 },
      { id: keyId(OLD), isInRing: true, dataKeys: 0 },
      { id: keyId(absent), isInRing: false, dataKeys: 2 },
    ]);
  });

  it('goes in batches, and says after each how far it is', async () => {
    const { database } = fresh();
    await sealMany(database, envelopeOf(OLD), 250);
    const said: [number, number][] = [];
    await envelopeOf(NEW, OLD).rewrap(database, (done, left) => void said.push([done, left]));
    assert.deepEqual(said, [
      [100, 150],
      [200, 50],
      [250, 0],
    ]);
    assert.equal(await envelopeOf(NEW, OLD).rewrap(database), 0);
  });

  it('and the way back, begun at the same time, both come to an end', async () => {
    const { database } = fresh();
    const sealed = await sealMany(database, envelopeOf(OLD), 100);
    const done = await Promise.all([envelopeOf(NEW, OLD).rewrap(database), envelopeOf(OLD, NEW).rewrap(database)]);
    assert.ok(done.every((count) => count <= 100));
    await opensAll(database, envelopeOf(NEW, OLD), sealed);
  });

  it('may be handed to by two at once: together they do each of them once', async () => {
    const { database, place: at } = fresh();
    const sealed = await sealMany(database, envelopeOf(OLD), 1_000);
    const two = [startRewrap(at, [NEW, OLD]), startRewrap(at, [NEW, OLD])];
    for (const { ended } of two) assert.deepEqual(await ended, { code: 0, signal: null });
    const done = two.map(({ lines }) => Number(/^done (\d+)$/.exec(lines.at(-1)!)![1]));
    assert.equal(done[0]! + done[1]!, 1_000);
    assert.equal(await wrappedBy(database, OLD), 0);
    await opensAll(database, envelopeOf(NEW), sealed);
  });

  it('is handed 2,000 data keys while others read and write, and no read and no write fails', async () => {
    const { database, place: at } = fresh();
    const sealed = await sealMany(database, envelopeOf(OLD), 2_000);
    const rewrap = startRewrap(at, [NEW, OLD], 20);
    await once(rewrap.output, 'line');
    const over = new AbortController();
    const ended = rewrap.ended.finally(() => over.abort());
    const counts = { read: 0, written: 0 };
    const reader = async (step: number) => {
      for (let i = step; !over.signal.aborted; i = (i + step) % sealed.length) {
        // One that remembers nothing reads and unwraps the data key each time.
        await opensOne(database, envelopeOf(OLD, NEW), i, sealed[i]!);
        counts.read++;
        await new Promise(setImmediate);
      }
    };
    const writer = async (envelope: Envelope) => {
      while (!over.signal.aborted) {
        const mine = await database.write((tx) => envelope.seal(tx, place(7), Buffer.from('value 7')));
        await opensOne(database, envelopeOf(NEW, OLD), 7, mine);
        counts.written++;
        await new Promise(setImmediate);
      }
    };
    // Brokers of before and after the change of the primary run side by side for a while.
    await Promise.all([
      reader(7),
      reader(611),
      reader(1_999),
      writer(envelopeOf(OLD, NEW)),
      writer(envelopeOf(NEW, OLD)),
    ]);
    assert.deepEqual(await ended, { code: 0, signal: null });
    assert.ok(counts.read > 100 && counts.written > 10, JSON.stringify(counts));
    // What a broker of before has made in the meantime is taken over by another run.
    await envelopeOf(NEW, OLD).rewrap(database);
    assert.equal(await wrappedBy(database, OLD), 0);
    await opensAll(database, envelopeOf(NEW), sealed);
  });

  it('gets the rest from another run when the one before was killed in the middle', async () => {
    const { database, place: at } = fresh();
    const sealed = await sealMany(database, envelopeOf(OLD), 2_000);
    for (const batches of [1, 4]) {
      const before = await wrappedBy(database, OLD);
      const { child, lines, output, ended } = startRewrap(at, [NEW, OLD], 10);
      while (lines.length < batches) await once(output, 'line');
      child.kill('SIGKILL');
      assert.deepEqual(await ended, { code: null, signal: 'SIGKILL' });
      const left = await wrappedBy(database, OLD);
      assert.ok(0 < left && left < before, `${left} left of ${before}`);
      assert.equal(left % 100, 0, 'a batch is done whole or not at all');
      await opensAll(database, envelopeOf(OLD, NEW), sealed);
    }
    const rest = await wrappedBy(database, OLD);
    assert.equal(await envelopeOf(NEW, OLD).rewrap(database), rest);
    assert.equal(await envelopeOf(NEW).check(database), undefined);
    await opensAll(database, envelopeOf(NEW), sealed);
  });
});

async function opensOne(database: Database, envelope: Envelope, i: number, sealed: string): Promise<void> {
  assert.equal((await envelope.open(database.read, place(i), sealed)).toString(), `value ${i}`);
}

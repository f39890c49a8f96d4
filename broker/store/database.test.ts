import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { sql } from 'kysely';
import { openDatabase } from './database.ts';
import { onEachDatabase } from './databases.test-support.ts';
import { enrol } from './writer.test-support.ts';

const BESIDE = /^Error: The database was asked beside the transaction in which this runs; ask the transaction\.$/;

onEachDatabase('the database', (fresh) => {
  const devices = async () => {
    const rows = await fresh().database.read.selectFrom('devices').select('id').orderBy('id').execute();
    return rows.map(({ id }) => id);
  };

  it('keeps a transaction whole: all of it, or nothing when it throws', async () => {
    const { database } = fresh();
    assert.equal(await database.write(async (tx) => (await enrol(tx, 'one'), 'value')), 'value');
    const failing = database.write(async (tx) => {
      await enrol(tx, 'two');
      throw new RangeError('changed its mind');
    });
    await assert.rejects(failing, /^RangeError: changed its mind$/);
    assert.deepEqual(await devices(), ['one']);
  });

  it('writes for many at once, one after the other', async () => {
    const { database } = fresh();
    const raise = () =>
      database.write(async (tx) => {
        await tx
          .updateTable('counters')
          .set((eb) => ({ value: eb('value', '+', 1) }))
          .execute();
      });
    await database.write((tx) => tx.insertInto('counters').values({ name: 'min_key_epoch', value: 0 }).execute());
    await Promise.all(Array.from({ length: 40 }, raise));
    const row = await database.read.selectFrom('counters').select('value').executeTakeFirst();
    assert.equal(row?.value, 40);
  });

  for (const [what, ask] of [
    ['a read', () => devices()],
    ['a write', () => fresh().database.write((tx) => enrol(tx, 'inner'))],
    ['a snapshot', () => fresh().database.snapshot((tx) => tx.selectFrom('devices').selectAll().execute())],
  ] as [string, () => Promise<unknown>][]) {
    it(`refuses ${what} inside of a transaction, which would wait for itself`, async () => {
      const { database } = fresh();
      await assert.rejects(
        database.write(() => ask()),
        BESIDE,
      );
      await assert.rejects(
        database.snapshot(() => ask()),
        BESIDE,
      );
      await database.write((tx) => enrol(tx, 'after'));
      assert.deepEqual(await devices(), ['after']);
    });
  }

  it('may be asked by what a transaction left behind, once that is over', async () => {
    const left = await fresh().database.write(async () => ({ later: setTimeout(20).then(devices) }));
    assert.deepEqual(await left.later, []);
  });

  it('reads a snapshot as it was at one moment, and does not stop those who write', async () => {
    const { database, reopen } = fresh();
    const other = await reopen();
    await database.write((tx) => enrol(tx, 'before'));
    const counted = await database.snapshot(async (tx) => {
      const ids = tx.selectFrom('devices').select('id');
      const first = await ids.execute();
      await other.write((inner) => enrol(inner, 'meanwhile'));
      return [first.length, (await ids.execute()).length];
    });
    assert.deepEqual(counted, [1, 1]);
    assert.deepEqual(await devices(), ['before', 'meanwhile']);
  });

  it('writes nothing in a snapshot', async () => {
    const { database } = fresh();
    await assert.rejects(database.snapshot((tx) => enrol(tx, 'one')));
    await database.write((tx) => enrol(tx, 'two'));
    assert.deepEqual(await devices(), ['two']);
  });

  it('gives no turn for ever: who waits too long is told so, and those behind go on', async () => {
    const { place, kind } = fresh();
    const database = await openDatabase(place, () => {}, { busyMs: 100, connectMs: 100 });
    const held = Promise.withResolvers<void>();
    // Postgres has ten connections, SQLite has one.
    const holders = Array.from({ length: kind === 'sqlite' ? 1 : 10 }, () => database.write(() => held.promise));
    await setTimeout(kind === 'sqlite' ? 0 : 500);
    const ask = () => database.read.selectFrom('devices').select('id').execute();
    await assert.rejects(ask(), { code: 'store_unavailable', status: 503 });
    const late = ask();
    held.resolve();
    assert.deepEqual(await late, []);
    await Promise.all(holders);
    await database.close();
  });

  it('cannot be used yet where a table or a column is missing; any other mistake is ours', async () => {
    const { read } = fresh().database;
    const ask = (text: string) => sql.raw(text).execute(read);
    for (const early of ['select * from wings', 'select wings from devices']) {
      await assert.rejects(ask(early), { code: 'store_unavailable' });
    }
    await assert.rejects(ask('selec 1'), (error: Error) => /syntax error/.test(error.message));
  });

  it('reads counts and times as numbers', async () => {
    const asked = sql<{ big: unknown }>`select cast(1790000000000 as bigint) as big`;
    assert.equal((await asked.execute(fresh().database.read)).rows[0]?.big, 1_790_000_000_000);
  });
});

import assert from 'node:assert/strict';
import { sql } from 'kysely';
import { onEachDatabase } from '../store/databases.test-support.ts';
import { AuditLog, newChain, OPERATOR_CHAIN } from './audit-log.ts';
import { auditWorld, EVENT, type AuditWorld } from './audit.test-support.ts';

onEachDatabase('the audit log', (fresh) => {
  let world: AuditWorld;
  beforeEach(() => void (world = auditWorld(fresh().database)));
  afterEach(() => world?.drop());

  const entries = () => fresh().database.read.selectFrom('audit_entries').selectAll().orderBy('n').execute();
  const announced = () => world.lines().filter(({ message }) => message === 'audit entry');
  const act = (name: string) => ({ name: `act-${name}`, applied_at: 1 });

  it('holds what happened, in order, and verifies', async () => {
    const broker = world.broker();
    await world.record(broker);
    await world.record(broker, { action: 'device.revoked', target: 'dev_2' });
    const [first, second] = await entries();
    assert.deepEqual(
      { ...first, chain: '', at: 0, hash: '' },
      {
        chain: '',
        n: 1,
        at: 0,
        actor: 'person:someone',
        action: 'device.renamed',
        target: 'dev_1',
        details: JSON.stringify(EVENT.details),
        request_id: 'req_1',
        hash: '',
      },
    );
    assert.deepEqual([second!.n, second!.action, second!.target], [2, 'device.revoked', 'dev_2']);
    const { chains, entries: counted, says } = await world.verify();
    assert.deepEqual({ chains, counted, says }, { chains: 1, counted: 2, says: [] });
  });

  it('takes any text there is, and what no database takes it writes so that it verifies', async () => {
    for (const target of [
      '',
      "'; drop table devices; --",
      '\0',
      'half \ud800 of it',
      '\u202e',
      'é',
      'x'.repeat(100_000),
    ]) {
      await world.record(world.operator, { target, actor: target, details: { target } });
    }
    const { entries: counted, says } = await world.verify();
    assert.deepEqual({ counted, says }, { counted: 7, says: [] });
  });

  it('gives each start of a broker a chain of its own', () => {
    const names = new Set(Array.from({ length: 1000 }, newChain));
    assert.equal(names.size, 1000);
    for (const name of names) assert.match(name, /^broker-[\da-f]{20}$/);
  });

  it('refuses the act whose entry cannot be written, and leaves nothing of it', async () => {
    const { database, kind } = fresh();
    const refuse =
      kind === 'sqlite'
        ? `create trigger refuse before insert on audit_entries begin select raise(abort, 'no more'); end`
        : `alter table audit_entries add constraint refuse check (n < 0)`;
    await sql.raw(refuse).execute(database.read);
    await assert.rejects(
      database.write(async (tx) => {
        await tx.insertInto('migrations').values(act('one')).execute();
        await world.operator.record(tx, EVENT);
      }),
    );
    const left = await database.read.selectFrom('migrations').select('name').where('name', 'like', 'act-%').execute();
    assert.deepEqual(left, []);
    assert.deepEqual(await database.read.selectFrom('audit_chains').selectAll().execute(), []);
    // And once it can be written again, the act goes through.
    await sql
      .raw(kind === 'sqlite' ? 'drop trigger refuse' : 'alter table audit_entries drop constraint refuse')
      .execute(database.read);
    await world.record(world.operator);
    assert.deepEqual((await world.verify()).says, []);
  });

  it('has no entry of an act that failed after it', async () => {
    const { database } = fresh();
    await world.record(world.operator);
    const failing = database.write(async (tx) => {
      await world.operator.record(tx, { ...EVENT, target: 'never' });
      throw new Error('after the entry');
    });
    await assert.rejects(failing, /after the entry/);
    await world.record(world.operator, { target: 'second' });
    assert.deepEqual(
      (await entries()).map(({ n, target }) => [n, target]),
      [
        [1, 'dev_1'],
        [2, 'second'],
      ],
    );
    assert.deepEqual((await world.verify()).says, []);
  });

  it('lets many write to one chain at once, from two processes’ connections, with no gap and no fork', async () => {
    const databases = [fresh().database, await fresh().reopen()];
    const logs = databases.map(() => new AuditLog({ chain: OPERATOR_CHAIN, now: Date.now }));
    await Promise.all(
      Array.from({ length: 100 }, (_, count) =>
        databases[count % 2]!.write(async (tx) => {
          await tx
            .insertInto('migrations')
            .values(act(String(count)))
            .execute();
          await logs[count % 2]!.record(tx, { ...EVENT, target: String(count) });
        }),
      ),
    );
    const rows = await entries();
    assert.deepEqual(
      rows.map(({ n }) => n),
      Array.from({ length: 100 }, (_, index) => index + 1),
    );
    assert.equal(new Set(rows.map(({ target }) => target)).size, 100);
    assert.deepEqual((await world.verify()).says, []);
  });

  it('announces every entry once, and only what was committed', async () => {
    const { database } = fresh();
    const broker = world.broker();
    await world.record(broker, { target: 'one' });
    await assert.rejects(
      database.write(async (tx) => {
        await broker.record(tx, { ...EVENT, target: 'undone' });
        throw new Error('undone');
      }),
    );
    await broker.announce(database, world.log);
    assert.equal(announced().length, 1);
    for (let count = 0; count < 1100; count++) {
      await database.write((tx) => broker.record(tx, { ...EVENT, target: `more ${count}` }));
    }
    await Promise.all([broker.announce(database, world.log), broker.announce(database, world.log)]);
    await broker.announce(database, world.log);
    const rows = await entries();
    assert.deepEqual(
      announced().map(({ auditEntry }) => auditEntry),
      rows.map(({ chain, n, actor, action, target, request_id, hash }) => {
        return { chain, n, actor, action, target, request_id, hash };
      }),
    );
  });

  it('does not go on with a chain whose row was taken away', async () => {
    const { database } = fresh();
    await world.record(world.operator);
    await database.read.deleteFrom('audit_chains').execute();
    await assert.rejects(world.record(world.operator));
    assert.equal((await entries()).length, 1);
  });
});

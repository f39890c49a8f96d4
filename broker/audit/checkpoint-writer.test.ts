import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { sql } from 'kysely';
import { onEachDatabase } from '../store/databases.test-support.ts';
import { auditWorld, type AuditWorld } from './audit.test-support.ts';
import { lastCheckpoint } from './checkpoint-file.ts';
import { CheckpointError } from './checkpoint-writer.ts';
import { BEFORE_THE_FIRST, hashOfCheckpoint, headsOf, isSignedBy, signCheckpoint } from './checkpoint.ts';
import { olderThanCheckpoint } from './rollback.ts';
import { findPublicKey, readPublicKey, writePublicKey } from './signing-key.ts';

onEachDatabase('checkpoints', (fresh) => {
  let world: AuditWorld;
  beforeEach(() => void (world = auditWorld(fresh().database)));
  afterEach(() => world?.drop());

  const stored = () => fresh().database.read.selectFrom('audit_checkpoints').selectAll().orderBy('n').execute();
  const named = (checkpoint: Parameters<typeof headsOf>[0] | undefined) =>
    checkpoint && headsOf(checkpoint)!.map(({ chain, length }) => [chain.split('-')[0], length]);

  it('name the chains that have grown, follow one another, and are signed', async () => {
    const writer = await world.writer();
    assert.equal(await writer.write(), undefined, 'nothing was recorded yet');
    await world.record(world.operator);
    await world.record(world.operator);
    const first = await writer.write();
    assert.deepEqual(named(first), [['operator', 2]]);
    assert.equal(await writer.write(), undefined, 'nothing grew');
    await world.record(world.broker());
    const second = await writer.write();
    assert.deepEqual(named(second), [['broker', 1]]);
    assert.deepEqual([first!.n, first!.previous], [1, BEFORE_THE_FIRST]);
    assert.deepEqual([second!.n, second!.previous], [2, hashOfCheckpoint(first!)]);
    const publicKey = (await findPublicKey(fresh().database.read))!;
    for (const checkpoint of await stored()) assert.ok(isSignedBy(checkpoint, publicKey));
  });

  it('are kept in the database, in the log and in the file', async () => {
    await world.record(world.operator);
    const made = await (await world.writer()).write();
    assert.deepEqual({ ...(await stored())[0] }, made);
    assert.deepEqual(lastCheckpoint(world.file), made);
    const line = world.lines().find(({ message }) => message === 'audit checkpoint');
    assert.deepEqual(line?.['auditCheckpoint'], made);
  });

  it('go on where another process left off', async () => {
    await world.record(world.operator);
    await (await world.writer()).write();
    const later = await world.writer();
    assert.equal(await later.write(), undefined, 'what another has named is not named again');
    await world.record(world.operator);
    assert.deepEqual(named(await later.write()), [['operator', 2]]);
  });

  it('go on behind any number of others', async () => {
    const like = { at: 1, heads: '[]', previous: '', key_id: 'audit-1', signature: '' };
    const rows = Array.from({ length: 3501 }, (_, index) => ({ ...like, n: index + 1 }));
    await fresh().database.read.insertInto('audit_checkpoints').values(rows).execute();
    await world.record(world.operator);
    const made = await (await world.writer()).write();
    assert.deepEqual([made!.n, made!.previous], [3502, hashOfCheckpoint(rows[3500]!)]);
  });

  it('are made one after the other, however many brokers make them', async () => {
    const writers = [await world.writer(), await world.writer(), await world.writer()];
    const brokers = writers.map(() => world.broker());
    const after = await world.writer();
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        writers.map(async (writer, index) => {
          await world.record(brokers[index]!);
          await writer.write();
        }),
      );
      assert.equal(await after.write(), undefined, 'all that was recorded is named when each has written');
    }
    const made = await stored();
    assert.deepEqual(
      made.map(({ n }) => n),
      made.map((_, index) => index + 1),
    );
    const { entries, says } = await world.verify({ outside: world.file });
    assert.deepEqual({ entries, says }, { entries: 60, says: [] });
  });

  it('are made again by a broker whose number another took meanwhile', async function () {
    // SQLite has one writer at a time, and the second begins when the first is through.
    if (fresh().kind === 'sqlite') return this.skip();
    const beside = await fresh().reopen();
    const writer = await world.writer();
    await world.record(world.operator);
    const other = signCheckpoint({ n: 1, at: 1, heads: [], previous: BEFORE_THE_FIRST }, await world.key());
    const making = await beside.write(async (tx) => {
      await tx.insertInto('audit_checkpoints').values(other).execute();
      const waiting = { writes: writer.write() };
      await setTimeout(300);
      return waiting;
    });
    const made = (await making.writes)!;
    assert.deepEqual([made.n, made.previous], [2, hashOfCheckpoint(other)]);
    assert.deepEqual(named(made), [['operator', 1]]);
  });

  it('are all signed with one key, though brokers started together', async () => {
    const first = fresh().database;
    const second = await fresh().reopen();
    assert.equal(await findPublicKey(first.read), undefined);
    await Promise.all([world.writer(), world.writer()]);
    const rows = await second.read.selectFrom('signing_keys').selectAll().execute();
    assert.equal(rows.length, 1);
    assert.doesNotMatch(rows[0]!.private_sealed, /PRIVATE|^MC4CAQ/);
    const publicKey = readPublicKey(rows[0]!.public_key)!;
    assert.equal(writePublicKey(publicKey), rows[0]!.public_key);
    assert.equal(createPublicKey(publicKey.export({ format: 'pem', type: 'spki' })).asymmetricKeyType, 'ed25519');
  });

  it('are there for the next attempt when the file could not be written', async () => {
    const writer = await world.writer();
    await world.record(world.operator);
    mkdirSync(world.file);
    await assert.rejects(writer.write(), { code: 'EISDIR' });
    rmSync(world.file, { recursive: true });
    await world.record(world.operator);
    assert.equal((await writer.write())!.n, 2);
    assert.deepEqual((await world.verify({ outside: world.file })).says, []);
  });

  it('are not made over a database that has gone back', async () => {
    const writer = await world.writer();
    await world.record(world.operator);
    await writer.write();
    await world.record(world.operator);
    await writer.write();
    await sql`delete from audit_checkpoints where n = 2`.execute(fresh().database.read);
    await assert.rejects(writer.write(), CheckpointError);
    assert.equal((await stored()).length, 1);
  });

  it('go on for the other chains when one lacks what was vouched for, and say so once', async () => {
    const writer = await world.writer();
    const broker = world.broker();
    await world.record(world.operator);
    await writer.write();
    await world.record(broker);
    await writer.write();
    await sql`delete from audit_chains where id = 'operator'`.execute(fresh().database.read);
    await world.record(broker);
    assert.deepEqual(named(await writer.write()), [['broker', 2]]);
    await world.record(broker);
    await writer.write();
    const alarms = world.lines().filter(({ severity }) => severity === 'ERROR');
    assert.deepEqual(
      alarms.map(({ chain, length }) => [chain, length]),
      [['operator', 1]],
    );
  });

  it('tell at a start that the database is behind them', async () => {
    const { database } = fresh();
    const older = () => olderThanCheckpoint(database.read, lastCheckpoint(world.file));
    assert.equal(await older(), undefined, 'there is no checkpoint yet');
    const writer = await world.writer();
    await world.record(world.operator);
    await writer.write();
    await world.record(world.operator);
    await writer.write();
    assert.equal(await older(), undefined);
    await world.record(world.operator);
    assert.equal(await older(), undefined, 'it is ahead');

    await sql`update audit_chains set length = 1`.execute(database.read);
    assert.match((await older())!, /^The database is older than .*: the chain operator had 2 entries, and has 1\.$/);
    await sql`delete from audit_chains`.execute(database.read);
    assert.match((await older())!, /: the chain operator had 2 entries, and has 0\.$/);
    await sql`update audit_checkpoints set at = 1 where n = 2`.execute(database.read);
    assert.match((await older())!, /^The database is not the one of .*: another checkpoint stands in its place\.$/);
    await sql`delete from audit_checkpoints where n = 2`.execute(database.read);
    assert.match(
      (await older())!,
      /^The database is older than the checkpoint 2 of its audit log, made at 2026-01-01T\S+: that checkpoint is not in it\.$/,
    );
  });
});

describe('a public key', () => {
  const good = Buffer.alloc(32, 1).toString('base64');
  it('is read in the one spelling in which it is printed', () => {
    assert.equal(writePublicKey(readPublicKey(good)!), good);
  });
  for (const bad of ['', good.slice(1), `${good} `, good.replace('=', ''), `AA${good}`, good.replace('AQE=', 'AQF=')]) {
    it(`is not read from ${JSON.stringify(bad)}`, () => assert.equal(readPublicKey(bad), undefined));
  }
});

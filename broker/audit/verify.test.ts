import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { sql } from 'kysely';
import type { Transaction } from '../store/database.ts';
import { onEachDatabase } from '../store/databases.test-support.ts';
import { EVENT, filledWorld, type AuditWorld } from './audit.test-support.ts';
import { asCheckpoint, headsOf, readJson, signCheckpoint } from './checkpoint.ts';
import { EDITS, makeConsistent } from './edits.test-support.ts';

const HOW_MANY = process.env['PROVE'] === 'full' ? 10_000 : 500;
const UNDO = new Error('undo');

onEachDatabase('verification', (fresh) => {
  let world: AuditWorld;
  beforeEach(async () => void (world = await filledWorld(fresh().database)));
  afterEach(() => world?.drop());

  /** Does this to the database, hears what verification says, and undoes it. */
  async function saidAfter(edit: (tx: Transaction) => Promise<unknown>, outside?: string): Promise<string[]> {
    let says: string[] = [];
    const undone = fresh().database.write(async (tx) => {
      await edit(tx);
      ({ says } = await world.verify({ reader: tx, ...(outside !== undefined && { outside }) }));
      throw UNDO;
    });
    await assert.rejects(undone, UNDO);
    return says;
  }

  it('finds nothing in a log that nobody touched', async () => {
    const alone = await world.verify();
    const compared = await world.verify({ outside: world.file });
    const counts = { chains: 4, entries: 24, checkpoints: 12, says: [], findings: [] };
    assert.deepEqual(alone, { ...counts, outside: 0 });
    assert.deepEqual(compared, { ...counts, outside: 12 });
  });

  it(`finds each of ${HOW_MANY} random edits`, async function () {
    this.timeout(600_000);
    const kinds = Object.entries(EDITS);
    for (let count = 0; count < HOW_MANY; count++) {
      const [kind, edit] = kinds[count % kinds.length]!;
      const says = await saidAfter(edit, world.file);
      assert.notEqual(says.length, 0, `nobody noticed one who ${kind}`);
    }
    assert.deepEqual((await world.verify({ outside: world.file })).says, []);
  });

  // On the chain that all commands share: it has six entries, and the last checkpoint that names it has all of them.
  const ENTRY = (n: number, set: string) => `update audit_entries set ${set} where chain = 'operator' and n = ${n}`;
  const sentences: [string, string, string[]][] = [
    [
      'a change',
      ENTRY(3, `actor = 'nobody'`),
      [said('was changed: entry 3, or the hash of entry 2, is not what was recorded')],
    ],
    [
      'a change of the first',
      ENTRY(1, `details = '{}'`),
      [said('was changed: entry 1, or the start of the chain, is not what was recorded')],
    ],
    [
      'a hole',
      `delete from audit_entries where chain = 'operator' and n = 4`,
      [said('is not whole: entry 4 is missing')],
    ],
    [
      'a wide hole',
      `delete from audit_entries where chain = 'operator' and n in (2, 3)`,
      [said('is not whole: entries 2 to 3 are missing')],
    ],
    [
      'a zeroth entry',
      ENTRY(1, 'n = 0'),
      [said('has an entry 0, where none can be'), said('is not whole: entry 1 is missing')],
    ],
    [
      'a row that counts too little',
      `update audit_chains set length = 5 where id = 'operator'`,
      [said('has 6 entries, and its row counts 5')],
    ],
    [
      'a row that counts too much',
      `update audit_chains set length = 8 where id = 'operator'`,
      [said('is not whole: entries 7 to 8 are missing')],
    ],
    [
      'a row with another hash',
      `update audit_chains set head = 'ab' where id = 'operator'`,
      [said('has a last entry whose hash is not the one in its row')],
    ],
    [
      'a row that is gone',
      `delete from audit_chains where id = 'operator'`,
      [said('has entries, and its row in audit_chains is gone')],
    ],
    [
      'an empty chain',
      `insert into audit_chains (id, started_at, length, head) values ('more', 1, 0, '')`,
      ['The chain more is empty, which no chain ever is.'],
    ],
    ['a checkpoint that is gone', `delete from audit_checkpoints where n = 5`, ['Checkpoint 5 is missing.']],
    [
      'a checkpoint that was changed',
      `update audit_checkpoints set at = at + 1 where n = 12`,
      ['Checkpoint 12 is not signed by the key of this log; it was changed, or forged.'],
    ],
    [
      'a signature in another spelling',
      `update audit_checkpoints set signature = ' ' || signature where n = 12`,
      ['Checkpoint 12 is not signed by the key of this log; it was changed, or forged.'],
    ],
    [
      'a checkpoint where none can be',
      `update audit_checkpoints set n = 0 where n = 1`,
      ['There is a checkpoint 0, which is no number of a checkpoint.', 'Checkpoint 1 is missing.'],
    ],
  ];
  function said(what: string): string {
    return `The chain operator ${what}.`;
  }
  for (const [what, edit, expected] of sentences) {
    it(`says where there is ${what}`, async () => {
      assert.deepEqual(await saidAfter((tx) => sql.raw(edit).execute(tx)), expected);
    });
  }

  it('reads a long chain to its end', async () => {
    const { database } = fresh();
    const broker = world.broker();
    await database.write(async (tx) => {
      for (let count = 1; count <= 2500; count++) await broker.record(tx, { ...EVENT, target: `t${count}` });
    });
    assert.deepEqual((await world.verify()).entries, 2524);
    const says = await saidAfter((tx) =>
      sql.raw(`update audit_entries set actor = '' where target = 't2400'`).execute(tx),
    );
    assert.match(says.join(), /^The chain broker-[\da-f]+ was changed: entry 2400, or/);
  });

  it('finds a checkpoint that was changed and signed anew with the very key of the broker', async () => {
    const { database } = fresh();
    const old = await database.read
      .selectFrom('audit_checkpoints')
      .selectAll()
      .where('n', '=', 5)
      .executeTakeFirstOrThrow();
    const anew = signCheckpoint({ ...old, at: old.at + 1, heads: headsOf(old)! }, await world.key());
    const edit = (tx: Transaction) => tx.updateTable('audit_checkpoints').set(anew).where('n', '=', 5).execute();
    assert.deepEqual(await saidAfter(edit), [
      'Checkpoint 6 does not follow what stands before it; one of the two was changed.',
    ]);
  });

  it('compares whatever was kept outside, also what is older than a checkpoint', async () => {
    const line = { chain: 'operator', n: 5, hash: 'ab'.repeat(32) };
    appendFileSync(world.file, `${JSON.stringify({ auditEntry: line })}\n`);
    assert.deepEqual((await world.verify({ outside: world.file })).says, [
      said('was written anew: its entry 5 is not the one that a line kept outside vouches for'),
    ]);
  });

  it('says the chain and the number beside the sentence', async () => {
    await sql.raw(ENTRY(3, `target = ''`)).execute(fresh().database.read);
    const { findings } = await world.verify();
    assert.deepEqual(
      findings.map(({ chain, n }) => [chain, n]),
      [['operator', 3]],
    );
  });

  it('knows by its checkpoints a chain that was written anew, was cut off, or is gone', async () => {
    const cut = await saidAfter(async (tx) => {
      await sql.raw(`delete from audit_entries where chain = 'operator' and n > 4`).execute(tx);
      await makeConsistent(tx, 'operator');
    });
    assert.deepEqual(cut, [said('was cut off after entry 4; checkpoint 12 vouches for 6 entries')]);
    const anew = await saidAfter(async (tx) => {
      await sql.raw(ENTRY(6, `target = ''`)).execute(tx);
      await makeConsistent(tx, 'operator');
    });
    assert.deepEqual(anew, [said('was written anew: its entry 6 is not the one that checkpoint 12 vouches for')]);
    const gone = await saidAfter(async (tx) => {
      await sql.raw(`delete from audit_entries where chain = 'operator'`).execute(tx);
      await sql.raw(`delete from audit_chains where id = 'operator'`).execute(tx);
    });
    assert.deepEqual(gone, ['The chain operator is gone; checkpoint 12 vouches for 6 entries of it.']);
  });

  it('knows by an earlier checkpoint what was written anew before a later one was made', async () => {
    const { database } = fresh();
    await database.write(async (tx) => {
      await sql.raw(ENTRY(2, `target = 'somebody else'`)).execute(tx);
      await makeConsistent(tx, 'operator');
    });
    await world.record(world.operator);
    await (await world.writer()).write();
    const { says } = await world.verify();
    assert.equal(says.length, 5);
    for (const sentence of says) assert.match(sentence, /^The chain operator was written anew: its entry \d is not/);
  });

  it('cannot see in the database alone that the end was cut off after the last checkpoint, and sees it by the log', async () => {
    const { database } = fresh();
    const broker = world.broker();
    await world.record(broker);
    await (await world.writer()).write();
    await world.record(broker, { target: 'kept' });
    await world.record(broker, { target: 'the last' });
    await broker.announce(database, world.log);
    const logFile = join(world.folder, 'broker.log');
    // Logs of several brokers may be put together in any order.
    const lines = world.lines().map((line) => JSON.stringify(line));
    writeFileSync(logFile, lines.toReversed().join('\n'));
    assert.deepEqual((await world.verify({ outside: logFile })).says, []);
    const cut = async (tx: Transaction) => {
      const { chain } = await tx
        .selectFrom('audit_entries')
        .select('chain')
        .where('target', '=', 'the last')
        .executeTakeFirstOrThrow();
      await tx.deleteFrom('audit_entries').where('target', '=', 'the last').execute();
      await makeConsistent(tx, chain);
    };
    assert.deepEqual(await saidAfter(cut), []);
    assert.deepEqual(await saidAfter(cut, world.file), []);
    const [sentence, ...more] = await saidAfter(cut, logFile);
    assert.match(sentence!, /was cut off after entry 2; a line kept outside vouches for 3 entries\.$/);
    assert.deepEqual(more, []);
  });

  it('knows by what was kept outside that the last checkpoints are gone, or are others', async () => {
    const removed = `delete from audit_checkpoints where n > 10`;
    assert.deepEqual(await saidAfter((tx) => sql.raw(removed).execute(tx)), []);
    const gone = (n: number) =>
      `Checkpoint ${n} was kept outside, and is not in the database; it was removed, or the database is an older one.`;
    assert.deepEqual(await saidAfter((tx) => sql.raw(removed).execute(tx), world.file), [gone(11), gone(12)]);
    const moved = `update audit_checkpoints set key_id = 'audit-2' where n = 12`;
    assert.deepEqual(await saidAfter((tx) => sql.raw(moved).execute(tx), world.file), [
      'Checkpoint 12 is not signed by the key of this log; it was changed, or forged.',
      'Checkpoint 12 in the database is not the one that was kept outside.',
    ]);
  });

  it('believes what was kept outside about chains that the database has no trace of', async () => {
    const says = await saidAfter(async (tx) => {
      await sql.raw('delete from audit_checkpoints').execute(tx);
      await sql.raw('delete from audit_entries').execute(tx);
      await sql.raw('delete from audit_chains').execute(tx);
    }, world.file);
    assert.equal(says.filter((sentence) => /^The chain .* is gone; .*kept outside, vouches/.test(sentence)).length, 4);
  });

  it('does not believe a checkpoint outside that somebody else signed', async () => {
    const { auditCheckpoint } = readJson(readFileSync(world.file, 'utf8').split('\n')[0]!) as {
      auditCheckpoint: object;
    };
    const real = asCheckpoint(auditCheckpoint)!;
    const { privateKey } = generateKeyPairSync('ed25519');
    const heads = [{ chain: 'invented', length: 9, head: 'ab' }];
    const forged = signCheckpoint({ ...real, n: 99, heads }, { id: real.key_id, privateKey });
    appendFileSync(world.file, `${JSON.stringify({ auditCheckpoint: forged })}\n`);
    assert.deepEqual((await world.verify({ outside: world.file })).says, [
      'Checkpoint 99, kept outside, is not signed by the key of this log.',
    ]);
  });

  it('says that a number is too large, and looks at the other chains nevertheless', async () => {
    const says = await saidAfter(async (tx) => {
      await sql.raw(ENTRY(2, 'at = 1152921504606846976')).execute(tx);
      await sql.raw(`update audit_chains set length = 9 where id <> 'operator'`).execute(tx);
    });
    assert.equal(says.length, 4);
    assert.ok(says.some((sentence) => sentence.startsWith('The chain operator ')));
  });

  it('finds nothing while others write', async () => {
    const { database } = fresh();
    const beside = await fresh().reopen();
    const writer = await world.writer();
    const brokers = Array.from({ length: 3 }, () => world.broker());
    const state = { isDone: false };
    const writing = (async () => {
      for (let count = 0; count < 60; count++) {
        for (const broker of brokers) await world.record(broker);
        await world.record(world.operator);
        if (count % 5 === 0) await writer.write();
        await setImmediate();
      }
      state.isDone = true;
    })();
    let looked = 0;
    for (; !state.isDone; looked++) {
      const { says } = await world.verify({ reader: beside.read, outside: world.file });
      assert.deepEqual(says, []);
    }
    await writing;
    assert.ok(looked > 1, 'it was looked at while it grew');
    assert.deepEqual((await world.verify({ reader: database.read, outside: world.file })).says, []);
  });
});

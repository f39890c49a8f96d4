import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { BackupError, PRIMARY_KEYS, writeBackup, type Row } from './backup.ts';
import type { Database } from './database.ts';
import { onEachDatabase } from './databases.test-support.ts';
import { openBackup } from './read-backup.ts';
import { restore } from './restore.ts';
import { enrol } from './writer.test-support.ts';

const NOW = 1_790_000_000_000;
// What other readers of lines take for an end, what JSON escapes, and what is not one character to JavaScript.
const ODD = 'a\u2028b\u0085c"\\\n😀';

onEachDatabase('a backup', (fresh) => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-backup-'));
    file = join(folder, 'backup.jsonl');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const write = (database: Database = fresh().database, mayReplace = false) =>
    writeBackup(database, file, { now: () => NOW, mayReplace });

  async function filled(devices = 3) {
    const { database } = fresh();
    await database.write(async (tx) => {
      for (let n = 1; n <= devices; n++) await enrol(tx, `d${n}`);
      await tx.updateTable('devices').set({ name: ODD }).where('id', '=', 'd1').execute();
      await tx.insertInto('data_keys').values({ id: 'dek', kek: 'k1', wrapped: 'w', created_at: 1, uses: 2 }).execute();
      await tx.insertInto('counters').values({ name: 'identity_revision', value: 7 }).execute();
    });
    return database;
  }

  async function rows(): Promise<Row[]> {
    const backup = await openBackup(file);
    const all: Row[] = [];
    for await (const { table, row } of backup.rows()) all.push({ table, ...row });
    await backup.close();
    return all;
  }

  const refused = (says: RegExp) =>
    assert.rejects(openBackup(file), (error) => error instanceof BackupError && says.test(error.message));

  it('has every table of the schema', async () => {
    const names = await fresh().database.tableNames();
    assert.deepEqual(names.toSorted(), [...Object.keys(PRIMARY_KEYS), 'migrations'].toSorted());
  });

  it('holds every row as it stands, for its owner alone, and the hash of it all', async () => {
    const written = await write(await filled());
    const text = readFileSync(file, 'utf8');
    const { sha256 } = JSON.parse(text.split('\n').at(-2)!) as { sha256: string };
    const body = text.slice(0, text.lastIndexOf('{"sha256"'));
    assert.equal(createHash('sha256').update(body).digest('hex'), sha256);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.equal(existsSync(`${file}.partial`), false);
    const header = JSON.parse(text.slice(0, text.indexOf('\n'))) as unknown;
    assert.deepEqual(written, { file, bytes: Buffer.byteLength(text), sha256, needsKeys: ['k1'], header });
    assert.deepEqual(header, {
      format: 'sallyport-backup',
      version: 1,
      created_at: NOW,
      kind: fresh().kind,
      migrations: ['0001-identity'],
      rows: {
        ...Object.fromEntries(Object.keys(PRIMARY_KEYS).map((table) => [table, 0])),
        counters: 1,
        data_keys: 1,
        devices: 3,
        device_keys: 3,
      },
    });
    const [counter, dataKey, device] = await rows();
    assert.deepEqual(counter, { table: 'counters', name: 'identity_revision', value: 7 });
    assert.deepEqual(dataKey, { table: 'data_keys', id: 'dek', kek: 'k1', wrapped: 'w', created_at: 1, uses: 2 });
    assert.equal(device?.['name'], ODD);
    assert.equal(device['revoked_at'], null);
  });

  it('holds tables that are longer than a page, by one key or by two', async () => {
    const database = await filled(1_203);
    await database.write(async (tx) => {
      for (const chain of ['a', 'b']) {
        const entry = {
          chain,
          at: 1,
          actor: 'x',
          action: 'x',
          target: 'x',
          details: '{}',
          request_id: null,
          hash: 'h',
        };
        for (let n = 1; n <= 600; n++)
          await tx
            .insertInto('audit_entries')
            .values({ ...entry, n })
            .execute();
      }
    });
    const { header } = await write(database);
    assert.deepEqual([header.rows.devices, header.rows.device_keys, header.rows.audit_entries], [1_203, 1_203, 1_200]);
    assert.equal(new Set((await rows()).map((row) => JSON.stringify(row))).size, 1_203 * 2 + 1_200 + 2);
  });

  it('is of one moment, while others write', async () => {
    const database = await filled(600);
    const other = await fresh().reopen();
    const late = { written: 0, isOver: false };
    const writing = (async () => {
      while (!late.isOver) {
        await other.write((tx) => enrol(tx, `late-${++late.written}`));
        // SQLite answers without ever letting anything else of this process have its turn.
        await setImmediate();
      }
    })();
    const { header } = await write(database).finally(() => void (late.isOver = true));
    await writing;
    assert.ok(late.written > 1);
    assert.equal(header.rows.devices, header.rows.device_keys);
    // It is what was counted at its beginning, and reads back.
    await (await openBackup(file)).close();
  });

  it('is never written over a file that is there, unless that is asked for', async () => {
    const database = await filled();
    writeFileSync(file, 'precious');
    await assert.rejects(write(database), /There is a file .*backup\.jsonl already; say --force to replace it\./);
    assert.equal(readFileSync(file, 'utf8'), 'precious');
    await write(database, true);
    assert.equal((await rows()).length, 8);
  });

  it('is refused beside another one that is being written, and where there is no folder', async () => {
    const database = await filled();
    writeFileSync(`${file}.partial`, '');
    await assert.rejects(write(database), /\.partial: another backup is being written, or one was killed; then remove/);
    file = join(folder, 'nowhere', 'backup.jsonl');
    await assert.rejects(write(database), /^BackupError: The backup cannot be written: ENOENT/);
  });

  it('leaves nothing behind when it cannot be finished', async () => {
    const database = await filled();
    await assert.rejects(
      writeBackup({ ...database, snapshot: () => Promise.reject(new Error('gone')) }, file, {
        now: () => NOW,
        mayReplace: false,
      }),
      /gone/,
    );
    assert.deepEqual([existsSync(file), existsSync(`${file}.partial`)], [false, false]);
  });

  describe('that is not what was written is refused:', () => {
    let text: string;
    beforeEach(async () => {
      await write(await filled());
      text = readFileSync(file, 'utf8');
    });
    /** As someone would who knows how the hash is made. */
    const withHash = (lines: string[]) => {
      const body = lines.map((line) => `${line}\n`).join('');
      writeFileSync(file, `${body}{"sha256":"${createHash('sha256').update(body).digest('hex')}"}\n`);
    };
    const lines = () => text.split('\n').slice(0, -2);

    it('cut off anywhere', async () => {
      const whole = Buffer.from(text);
      for (let length = 0; length < whole.length; length += 37) {
        writeFileSync(file, whole.subarray(0, length));
        await refused(/(?:is not whole: its end is missing|is no backup of Sallyport)/);
      }
      writeFileSync(file, whole.subarray(0, whole.length - 1));
      await refused(/is not whole: its end is missing\. Use another copy\.$/);
      writeFileSync(file, `${lines().join('\n')}\n`);
      await refused(/is not whole/);
    });

    it('changed in any place', async () => {
      const whole = Buffer.from(text);
      for (let at = 0; at < whole.length; at += 23) {
        const copy = Buffer.from(whole);
        copy[at]! ^= 1;
        writeFileSync(file, copy);
        await assert.rejects(openBackup(file), BackupError, `a bit at ${at}`);
      }
      writeFileSync(file, text.replace('playground', 'everything'));
      await refused(/is not as it was written: its rows and its hash do not agree\. Use another copy\.$/);
    });

    it('with a row taken out, put in twice, or of no table of ours, under a new hash', async () => {
      const all = lines();
      withHash(all.toSpliced(3, 1));
      await refused(/do not agree/);
      withHash([...all, all[3]!]);
      await refused(/do not agree/);
      for (const cell of ['{"a":1}', '[]', 'true', '1.5', '1e30']) {
        withHash(all.map((line) => line.replace('"linux"', cell)));
        await refused(/do not agree/);
      }
      for (const row of [
        '["migrations",{"name":"x"}]',
        '["devices",{"id":1}]',
        '["devices",{"id":{}}]',
        '["toString",{}]',
        '[]',
        'null',
        'x',
      ]) {
        withHash(all.toSpliced(-1, 1, row));
        await refused(/do not agree/);
      }
    });

    it('of another program, or of a newer version', async () => {
      for (const foreign of [
        '',
        '\n',
        '{}\n',
        'SQLite format 3\0',
        `${'x'.repeat(17 * 1024 * 1024)}\n`,
        '{"format":"other"}\n',
      ]) {
        writeFileSync(file, foreign);
        await assert.rejects(openBackup(file), BackupError);
      }
      withHash(lines().with(0, lines()[0]!.replace('0001-identity', '0009-wings')));
      await refused(
        /was written by a newer version of Sallyport \(this one does not know 0009-wings\); restore it with that one\.$/,
      );
      withHash(lines().with(0, lines()[0]!.replace('"version":1', '"version":2')));
      await refused(/was written by a newer version of Sallyport; restore it with that one\.$/);
      rmSync(file);
      await refused(/^The backup cannot be read: ENOENT/);
    });

    it('changed between reading it and restoring it; and nothing is written', async () => {
      const copy = join(folder, 'copy.jsonl');
      copyFileSync(file, copy);
      const backup = await openBackup(copy);
      writeFileSync(copy, text.replace('playground', 'everything'));
      const { database } = fresh();
      await database.write(async (tx) => {
        await tx.deleteFrom('device_keys').execute();
        await tx.deleteFrom('devices').execute();
      });
      const since = { replace: false, revokeAll: true };
      await assert.rejects(restore(database, backup, since, { now: () => NOW }), /is not as it was written/);
      assert.deepEqual(await database.read.selectFrom('devices').select('id').execute(), []);
      await backup.close();
    });
  });
});

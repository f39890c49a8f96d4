import assert from 'node:assert/strict';
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Secret } from '@sallyport/protocol/secret.ts';
import { OPERATOR_CHAIN } from '../audit/audit-log.ts';
import { CHECKPOINT_FILE } from '../audit/checkpoint-file.ts';
import { exportLog } from '../audit/export.ts';
import { storedLog } from '../audit/stored-log.ts';
import { verifyLog } from '../audit/verify.ts';
import { readConfig, type Config } from '../config/config.ts';
import { retireKeys, revokeAllDevices, revokeDevice, sweepUnheard } from '../control/devices.ts';
import { invite } from '../control/invites.ts';
import { openRecords, type Records } from '../control/records.ts';
import { openDataFolder } from '../store/data-folder.ts';
import type { Database, Transaction } from '../store/database.ts';
import { freshDatabase, type FreshDatabase } from '../store/databases.test-support.ts';
import { raiseCounter, readCounter } from '../store/devices.ts';
import { openDatabase } from '../store/database.ts';
import { addKey, asArguments, enrol } from '../store/writer.test-support.ts';
import { backupCommand } from './backup.ts';
import { migrateCommand } from './migrate.ts';
import { restoreCommand } from './restore.ts';
import type { Terminal } from './terminal.ts';

const NOW = 1_790_000_000_000;
const HOUR_MS = 3_600_000;
const KINDS = ['sqlite', 'postgres'] as const;
const BY = { actor: 'operator' };
const KEY = 'ab'.repeat(32);

/** A database with its configuration, and the commands for it. */
type House = FreshDatabase & { config: Config; records: Records };

describe('backup and restore', () => {
  let folder: string;
  let houses: House[];
  let nowMs: number;
  let file: string;
  const now = () => nowMs;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-restore-'));
    file = join(folder, 'backup.jsonl');
    houses = [];
    nowMs = NOW;
  });
  afterEach(async () => {
    for (const house of houses) await house.drop();
    rmSync(folder, { recursive: true });
  });

  async function open(kind: Database['kind']): Promise<House | undefined> {
    const fresh = await freshDatabase(kind);
    if (fresh === undefined) return undefined;
    const { place } = fresh;
    const data = place.kind === 'sqlite' ? join(place.file, '..') : join(folder, `data-${houses.length}`);
    const where = place.kind === 'sqlite' ? '' : `database: { url: "${place.url.reveal()}" }\n`;
    const yaml = `data: "${data}"\n${where}encryption: { keys: ["${KEY}"] }\n`;
    const { config, mistakes } = readConfig({ env: {}, cwd: folder, readFile: () => yaml });
    assert.ok(config, JSON.stringify(mistakes));
    const records = await openRecords({ config, database: fresh.database, chain: OPERATOR_CHAIN, now });
    const house = { ...fresh, config, records };
    houses.push(house);
    return house;
  }

  /** The command in a terminal that keeps what would have been shown; on Postgres alone, as it has to be. */
  async function run({ config, database, kind }: House, command: 'backup' | 'restore' | 'migrate', ...words: string[]) {
    const shown = { said: [] as string[], written: '', code: 0 };
    const terminal: Terminal = {
      readConfig: () => config,
      now,
      say: (line) => void shown.said.push(line),
      write: (text) => void (shown.written += text),
      exit: (code) => void (shown.code = code),
      untilAskedToStop: () => Promise.resolve('SIGTERM'),
    };
    if (command === 'restore' && kind === 'postgres') await database.close();
    const commands = { backup: backupCommand, restore: restoreCommand, migrate: migrateCommand };
    await commands[command](terminal).parseAsync(words, { from: 'user' });
    return shown;
  }

  /** The database again, after a restore. */
  const again = async (house: House): Promise<House> => {
    const database = await house.reopen();
    return { ...house, database, records: { ...house.records, database } };
  };

  async function exportOf({ database }: House): Promise<string> {
    const lines: string[] = [];
    const exported = exportLog({ log: storedLog(database.read), publicKey: undefined });
    for await (const line of exported) lines.push(`${JSON.stringify(line)}\n`);
    const to = join(folder, `audit-${nowMs}.jsonl`);
    writeFileSync(to, lines.join(''));
    return to;
  }

  const entry = (records: Records, tx: Transaction, action: 'device.enrolled' | 'key.rotated', target: string) =>
    records.audit.record(tx, { actor: 'x', action, target });

  async function enrolAll({ records }: House, ...ids: string[]): Promise<void> {
    await records.database.write(async (tx) => {
      for (const id of ids) {
        await enrol(tx, id);
        await entry(records, tx, 'device.enrolled', id);
      }
    });
  }

  async function rotate({ records }: House, device: string): Promise<void> {
    await records.database.write(async (tx) => {
      const keyid = `spk_${device}`;
      const leaving = { state: 'retiring', not_after: nowMs + 24 * HOUR_MS } as const;
      await tx.updateTable('device_keys').set(leaving).where('keyid', '=', keyid).execute();
      await addKey(tx, { device, keyid: `${keyid}_2` });
      await entry(records, tx, 'key.rotated', keyid);
    });
  }

  /** The keys that a broker over this database would take. */
  async function letIn({ database: { read } }: House): Promise<string[]> {
    const least = await readCounter(read, 'min_key_epoch');
    const rows = await read
      .selectFrom('device_keys')
      .innerJoin('devices', 'devices.id', 'device_keys.device_id')
      .select('keyid')
      .where('state', '!=', 'gone')
      .where('revoked_at', 'is', null)
      .where('epoch', '>=', least)
      .orderBy('keyid')
      .execute();
    return rows.map(({ keyid }) => keyid);
  }

  async function stateOf({ database: { read } }: House, keyid: string): Promise<string | undefined> {
    const row = await read.selectFrom('device_keys').select('state').where('keyid', '=', keyid).executeTakeFirst();
    return row?.state;
  }

  async function unrevoked({ database: { read } }: House): Promise<string[]> {
    const rows = await read.selectFrom('devices').select('id').where('revoked_at', 'is', null).execute();
    return rows.map(({ id }) => id);
  }

  async function openInvites({ database: { read } }: House): Promise<number> {
    const usable = read
      .selectFrom('invites')
      .select('id')
      .where('used_at', 'is', null)
      .where('psk_sealed', 'is not', null);
    return (await usable.where('expires_at', '>', nowMs).execute()).length;
  }

  async function auditFindings({ database }: House): Promise<string[]> {
    const found: string[] = [];
    await verifyLog({
      log: storedLog(database.read),
      publicKey: undefined,
      found: ({ says }) => void found.push(says),
    });
    return found;
  }

  const lastAction = async ({ database }: House) =>
    await database.read
      .selectFrom('audit_entries')
      .selectAll()
      .where('chain', '=', OPERATOR_CHAIN)
      .orderBy('n', 'desc')
      .limit(1)
      .executeTakeFirstOrThrow();

  /** What is there when the backup is made. */
  async function fill(house: House): Promise<void> {
    await enrolAll(house, 'safe', 'lost', 'rotated', 'retiring');
    await house.database.write(async (tx) => {
      await enrol(tx, 'unheard');
      await tx.updateTable('devices').set({ confirmed_at: null }).where('id', '=', 'unheard').execute();
      await raiseCounter(tx, 'identity_revision');
    });
    await rotate(house, 'retiring');
    for (const name of ['used', 'unused'])
      await invite(house.records, { products: ['playground'], name, validMs: 48 * HOUR_MS }, BY);
  }
  const BEFORE = ['spk_lost', 'spk_retiring', 'spk_retiring_2', 'spk_rotated', 'spk_safe', 'spk_unheard'];

  /** What happens after it was made. */
  async function goOn(house: House): Promise<void> {
    nowMs += 25 * HOUR_MS;
    const { records, database } = house;
    assert.ok(await revokeDevice(records, 'lost', 'it was stolen', BY));
    assert.equal(await sweepUnheard(records), 1);
    assert.equal(await retireKeys(records), 1);
    await rotate(house, 'rotated');
    await enrolAll(house, 'newcomer');
    await database.write((tx) =>
      tx
        .updateTable('invites')
        .set({ used_at: nowMs, device_id: 'newcomer' })
        .where('device_name', '=', 'used')
        .execute(),
    );
  }

  for (const from of KINDS) {
    for (const to of KINDS) {
      it(`moves a database from ${from} to ${to}, and whoever was shut out afterwards stays out`, async function () {
        this.timeout(60_000);
        const [source, moved, copy, spare] = [await open(from), await open(to), await open(to), await open(to)];
        if (!source || !moved || !copy || !spare) return this.skip();
        await fill(source);
        assert.deepEqual(await letIn(source), BEFORE);
        const written = await run(source, 'backup', file);
        assert.equal(written.code, 0, written.said.join());
        assert.match(
          written.said.join(),
          /^The secrets in it are sealed; without the encryption keys k[0-9a-f]{10} it is of no use\./,
        );

        // The move itself: nothing has happened since, and the log says so.
        const done = await run(moved, 'restore', file, '--audit', await exportOf(source));
        assert.deepEqual(
          [done.code, done.written],
          [0, 'restored: 5 devices, 0 of them shut out since; 0 that are newer were kept\n'],
          done.said.join(),
        );
        const present = await again(moved);
        assert.deepEqual(await letIn(present), BEFORE);
        for (const table of ['devices', 'device_keys', 'data_keys', 'key_canaries'] as const) {
          const rows = async ({ database: { read } }: House) =>
            JSON.stringify(await read.selectFrom(table).selectAll().orderBy('created_at').execute());
          const sorted = (text: string) => (JSON.parse(text) as object[]).map((row) => JSON.stringify(row)).toSorted();
          assert.deepEqual(sorted(await rows(present)), sorted(await rows(source)), table);
        }
        assert.equal(await openInvites(source), 2);
        assert.equal(await openInvites(present), 0, 'an invitation is still open');
        assert.deepEqual(await auditFindings(present), []);

        await goOn(present);
        const since = await exportOf(present);
        const exported = (await lastAction(present)).n;
        const revision = await readCounter(present.database.read, 'identity_revision');

        // Over the database that is there.
        const over = await run(present, 'restore', file, '--replace', '--json');
        assert.equal(over.code, 0, over.said.join());
        assert.deepEqual(JSON.parse(over.written), { file, devices: 5, revoked: 2, keyless: 0, kept: 1, moved: null });
        const replaced = await again(present);
        assert.deepEqual(await letIn(replaced), [
          'spk_newcomer',
          'spk_retiring_2',
          'spk_rotated',
          'spk_rotated_2',
          'spk_safe',
        ]);
        assert.equal(await openInvites(replaced), 0);
        assert.ok((await readCounter(replaced.database.read, 'identity_revision')) > revision);
        assert.deepEqual(await auditFindings(replaced), []);
        const { action, target, details } = await lastAction(replaced);
        assert.deepEqual([action, target], ['database.restored', file]);
        assert.deepEqual(JSON.parse(details), {
          backup_of: NOW,
          devices: 5,
          revoked: 2,
          keyless: 0,
          kept: 1,
          replace: true,
          audit: false,
          revoke_all: false,
        });
        const because = await replaced.database.read
          .selectFrom('devices')
          .select('revoked_because')
          .where('id', '=', 'lost')
          .executeTakeFirst();
        assert.equal(because?.revoked_because, 'it was stolen');

        // By the audit log, with the database gone.
        const byLog = await run(copy, 'restore', file, '--audit', since);
        assert.equal(byLog.code, 0, byLog.said.join());
        assert.match(
          byLog.said.join('\n'),
          /1 devices have no key that is known here, and must enrol again\.\n.*\nWhat happened is known until 2026-/,
        );
        const logged = await again(copy);
        assert.deepEqual(await letIn(logged), ['spk_retiring_2', 'spk_safe']);
        assert.equal(await openInvites(logged), 0);
        assert.deepEqual(await auditFindings(logged), []);
        const last = await lastAction(logged);
        assert.deepEqual([last.action, last.n], ['database.restored', exported + 1], 'the log goes on unbroken');
        assert.equal(await stateOf(logged, 'spk_lost'), 'gone');

        // With nothing.
        const byNothing = await run(spare, 'restore', file, '--revoke-all');
        assert.equal(byNothing.code, 0, byNothing.said.join());
        const bare = await again(spare);
        assert.deepEqual(await letIn(bare), []);
        assert.equal(await readCounter(bare.database.read, 'min_key_epoch'), 1);
        assert.deepEqual(await unrevoked(bare), []);
      });

      it(`keeps all out who were shut out at once, from ${from} to ${to}`, async function () {
        this.timeout(60_000);
        const [source, copy] = [await open(from), await open(to)];
        if (!source || !copy) return this.skip();
        await fill(source);
        await run(source, 'backup', file);
        assert.equal(await revokeAllDevices(source.records, 'a bad day', BY), 5);
        await source.database.write(async (tx) => {
          await enrol(tx, 'later');
          await tx.updateTable('device_keys').set({ epoch: 1 }).where('device_id', '=', 'later').execute();
          await entry(source.records, tx, 'device.enrolled', 'later');
        });
        const since = await exportOf(source);
        assert.equal((await run(copy, 'restore', file, '--audit', since)).code, 0);
        const shut = await again(copy);
        assert.deepEqual(await letIn(shut), []);
        assert.equal(await readCounter(shut.database.read, 'min_key_epoch'), 1);
        assert.deepEqual(await unrevoked(shut), []);
        assert.equal((await run(source, 'restore', file, '--replace')).code, 0);
        const present = await again(source);
        assert.deepEqual(await letIn(present), ['spk_later']);
        assert.equal(await readCounter(present.database.read, 'min_key_epoch'), 1);
      });
    }
  }

  for (const kind of KINDS) {
    describe(`on ${kind}`, () => {
      let house: House;
      beforeEach(async function () {
        const opened = await open(kind);
        if (opened === undefined) return this.skip();
        house = opened;
        await fill(house);
        await run(house, 'backup', file);
      });

      const rowsOf = async ({ database: { read } }: House) =>
        JSON.stringify([
          await read.selectFrom('devices').selectAll().orderBy('id').execute(),
          await read.selectFrom('device_keys').selectAll().orderBy('keyid').execute(),
          await read.selectFrom('invites').selectAll().orderBy('id').execute(),
          await read.selectFrom('counters').selectAll().orderBy('name').execute(),
          await read.selectFrom('audit_entries').selectAll().orderBy('n').execute(),
        ]);

      /** It fails with this sentence, and has written nothing. */
      async function refuses(target: House, says: RegExp, ...words: string[]): Promise<House> {
        const before = await rowsOf(target);
        const shown = await run(target, 'restore', file, ...words);
        assert.match(shown.said.join('\n'), says);
        assert.deepEqual([shown.code, shown.written], [1, '']);
        const after = await again(target);
        assert.equal(await rowsOf(after), before);
        return after;
      }

      it('refuses a database that is not empty, unless it may be replaced', async () => {
        for (const words of [[], ['--revoke-all'], ['--audit', await exportOf(house)]]) {
          house = await refuses(
            house,
            /^The database is not empty\. With --replace the backup is put over it; what was revoked/,
            ...words,
          );
        }
      });

      it('refuses where nobody knows what happened since, and names the three ways out', async () => {
        const empty = (await open(kind))!;
        const three =
          /^A backup does not know who was shut out .* which is empty; --audit <file> .* say --revoke-all, and every device must enrol again\.$/;
        await refuses(await refuses(empty, three), three, '--replace');
      });

      it('does not take a database for the one that was backed up because something is in it', async () => {
        const other = (await open(kind))!;
        await enrolAll(other, 'first');
        const same = await refuses(
          other,
          /which is not the one that was backed up, or has lost its audit log; --audit/,
          '--replace',
        );
        const shown = await run(same, 'restore', file, '--replace', '--revoke-all');
        assert.equal(shown.code, 0, shown.said.join());
        const shut = await again(same);
        assert.deepEqual(await letIn(shut), []);
        assert.deepEqual(await unrevoked(shut), []);
        assert.equal(await stateOf(shut, 'spk_first'), 'gone');
      });

      it('refuses a log that ends before the backup, has gaps, or is none', async () => {
        const log = await exportOf(house);
        const lines = readFileSync(log, 'utf8').split('\n');
        const empty = (await open(kind))!;
        const partial = join(folder, 'partial.jsonl');
        const cases: [string[], RegExp][] = [
          [
            lines.toSpliced(-2, 1),
            /partial\.jsonl does not hold everything that followed the backup: entries of the chain operator are missing\. Export the whole log/,
          ],
          [lines.toSpliced(4, 1), /entries of the chain operator are missing/],
          [[], /partial\.jsonl is no export of an audit log; make one with: sallyport-broker audit export$/],
          [['{"auditEntry":{"chain":"operator"}}', ''], /has an entry that cannot be read/],
          [['half a line'], /is not whole/],
        ];
        let target = empty;
        for (const [kept, says] of cases) {
          writeFileSync(partial, kept.join('\n'));
          target = await refuses(target, says, '--audit', partial);
        }
      });

      it('refuses a log that was exported before the backup was made', async () => {
        const log = await exportOf(house);
        await enrolAll(house, 'later');
        await run(house, 'backup', file, '--force');
        const empty = (await open(kind))!;
        await refuses(empty, /does not hold everything that followed the backup/, '--audit', log);
      });

      it('does not widen what a device may do, nor open what the present has closed', async () => {
        const { database } = house;
        await database.write(async (tx) => {
          await tx
            .updateTable('devices')
            .set({ products: '["other"]', name: 'renamed' })
            .where('id', '=', 'safe')
            .execute();
          await tx.deleteFrom('device_keys').where('keyid', '=', 'spk_lost').execute();
        });
        assert.equal((await run(house, 'restore', file, '--replace')).code, 0);
        const after = await again(house);
        const row = await after.database.read
          .selectFrom('devices')
          .select(['name', 'products'])
          .where('id', '=', 'safe')
          .executeTakeFirst();
        assert.deepEqual({ ...row }, { name: 'the desktop safe', products: '[]' });
        // What was lost is what a backup is for.
        assert.deepEqual(await letIn(after), BEFORE);
      });

      it('keeps out whom the log of the present has shut out, also where the rows are lost', async () => {
        await goOn(house);
        await house.database.write(async (tx) => {
          await tx.deleteFrom('device_keys').where('device_id', 'in', ['lost', 'unheard']).execute();
          await tx.deleteFrom('devices').where('id', 'in', ['lost', 'unheard']).execute();
        });
        assert.equal((await run(house, 'restore', file, '--replace')).code, 0);
        const keys = await letIn(await again(house));
        assert.deepEqual(
          keys.filter((keyid) => /lost|unheard/.test(keyid)),
          [],
        );
      });

      it('keeps out a key that was gone already', async () => {
        const { database } = house;
        const mark = (state: 'gone' | 'active') =>
          database.write((tx) =>
            tx.updateTable('device_keys').set({ state }).where('keyid', '=', 'spk_safe').execute(),
          );
        await mark('gone');
        await run(house, 'backup', file, '--force');
        await mark('active');
        assert.equal((await run(house, 'restore', file, '--replace')).code, 0);
        assert.equal(await stateOf(await again(house), 'spk_safe'), 'gone');
      });

      it('does not bring back a key beside the one that has replaced it', async () => {
        const { database } = house;
        await database.write(async (tx) => {
          await tx.deleteFrom('device_keys').where('device_id', '=', 'safe').execute();
          await addKey(tx, { device: 'safe', keyid: 'spk_safe_9' });
        });
        assert.equal((await run(house, 'restore', file, '--replace')).code, 0);
        const keys = (await letIn(await again(house))).filter((keyid) => keyid.startsWith('spk_safe'));
        assert.deepEqual(keys, ['spk_safe_9']);
      });

      it('refuses while a broker holds the data folder', async () => {
        const broker = openDataFolder(house.config.data);
        const shown = await run(house, 'restore', file, '--replace');
        broker.close();
        assert.match(shown.said.join(), /^Another broker is using the data folder/);
        assert.equal(shown.code, 1);
      });

      const onPostgres = kind === 'postgres' ? it : () => {};
      onPostgres('refuses while another one is connected to the same Postgres', async () => {
        const other = await house.reopen();
        const shown = await run(house, 'restore', file, '--replace');
        assert.match(
          shown.said.join(),
          /^A broker or another command is connected to this database; stop every one first\.$/,
        );
        assert.equal(shown.code, 1);
        await other.close();
        assert.equal((await run(await again(house), 'restore', file, '--replace')).code, 0);
      });

      it('moves checkpoints of a log that is lost out of the way, and says so', async () => {
        const checkpoint = {
          n: 9,
          at: NOW,
          heads: '[["operator",99,"x"]]',
          previous: 'p',
          key_id: 'k',
          signature: 's',
        };
        const empty = (await open(kind))!;
        openDataFolder(empty.config.data).close();
        const kept = join(empty.config.data, CHECKPOINT_FILE);
        writeFileSync(kept, `${JSON.stringify({ auditCheckpoint: checkpoint })}\n`);
        const shown = await run(empty, 'restore', file, '--revoke-all', '--json');
        assert.equal(shown.code, 0, shown.said.join());
        const { moved } = JSON.parse(shown.written) as { moved: string };
        assert.deepEqual([existsSync(kept), existsSync(moved)], [false, true]);
        assert.match(
          shown.said.join(),
          /The audit log of the backup ends before the checkpoints that were kept; they are in/,
        );
      });

      it('says which encryption key is missing', async () => {
        const empty = (await open(kind))!;
        const config = { ...empty.config, encryptionKeys: [new Secret(Buffer.alloc(32, 1))] };
        const shown = await run({ ...empty, config }, 'restore', file, '--revoke-all');
        assert.match(shown.said.join('\n'), /k[0-9a-f]{10}/);
        assert.equal(shown.code, 0);
      });

      it('leaves everything as it was when it is killed in the middle', async () => {
        await goOn(house);
        const before = await rowsOf(house);
        const program = join(import.meta.dirname, '../store/restorer.test-support.ts');
        const child = spawn(process.execPath, [program, file, ...asArguments(house.place)], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        const gone = once(child, 'close');
        // All rows are written, and it is about to commit.
        const [said] = (await once(child.stdout, 'data')) as [Buffer];
        assert.equal(said.toString(), 'all but committed\n');
        child.kill('SIGKILL');
        await gone;
        const database = await openDatabase(house.place, () => {});
        assert.equal(await rowsOf({ ...house, database }), before);
        await database.write((tx) => enrol(tx, 'afterwards'));
        await database.close();
      });
    });
  }
});

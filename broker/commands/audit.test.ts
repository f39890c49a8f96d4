import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, generateKeyPairSync, randomBytes, verify } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { filledWorld, type AuditWorld } from '../audit/audit.test-support.ts';
import { CHECKPOINT_FILE } from '../audit/checkpoint-file.ts';
import { encode } from '../audit/entry.ts';
import { writePublicKey } from '../audit/signing-key.ts';
import { readConfig, type Config } from '../config/config.ts';
import { onEachDatabase } from '../store/databases.test-support.ts';
import type { AuditChain, AuditCheckpoint, AuditEntry } from '../store/tables.ts';
import { auditCommand } from './audit.ts';
import type { Terminal } from './terminal.ts';

type Line = {
  auditKey?: string;
  auditChain?: AuditChain & { after: { n: number; hash: string } };
  auditEntry?: AuditEntry;
  auditCheckpoint?: AuditCheckpoint;
};

onEachDatabase('audit', (fresh) => {
  let world: AuditWorld;
  let data: string;
  let keepsCopy: boolean;
  beforeEach(async () => {
    world = await filledWorld(fresh().database);
    const { place } = fresh();
    data = place.kind === 'sqlite' ? dirname(place.file) : mkdtempSync(join(world.folder, 'data-'));
    keepsCopy = true;
  });
  afterEach(() => world?.drop());

  const env = (): Record<string, string> => {
    const { place } = fresh();
    if (place.kind === 'postgres') {
      const ENCRYPTION_KEY = randomBytes(32).toString('base64');
      return { DATABASE_URL: place.url.reveal(), ENCRYPTION_KEY, SALLYPORT_DATA: data };
    }
    return { SALLYPORT_DATA: data };
  };

  function config(): Config {
    const reading = readConfig({ env: env(), cwd: world.folder, readFile: (path) => readFileSync(path, 'utf8') });
    assert.ok(reading.config, JSON.stringify(reading.mistakes));
    if (keepsCopy) copyFileSync(world.file, join(reading.config.data, CHECKPOINT_FILE));
    return reading.config;
  }

  /** A terminal that is not one: it keeps what would have been shown. */
  async function audit(...words: string[]) {
    const shown = { said: [] as string[], written: '', code: 0 };
    const read = config();
    const terminal: Terminal = {
      readConfig: () => read,
      now: Date.now,
      say: (line) => void shown.said.push(line),
      write: (text) => void (shown.written += text),
      exit: (code) => void (shown.code = code),
      untilAskedToStop: () => Promise.resolve('SIGTERM'),
    };
    const command = auditCommand(terminal).exitOverride();
    for (const one of command.commands)
      one.exitOverride().configureOutput({ writeErr: (text) => shown.said.push(text) });
    await command
      .parseAsync(words, { from: 'user' })
      .catch((error: { code?: string; message: string; exitCode?: number }) => {
        if (!error.code?.startsWith('commander.')) throw error;
        shown.code = error.exitCode!;
      });
    return shown;
  }

  const run = (text: string) => sql.raw(text).execute(fresh().database.read);

  describe('verify', () => {
    it('says that nothing was changed, what it compared, and whose key it believed', async () => {
      const { written, said, code } = await audit('verify');
      assert.deepEqual([written, code], ['ok: 24 entries, 4 chains, 12 checkpoints\n', 0]);
      assert.match(said[0]!, /^Compared with 12 checkpoints kept in .*audit-checkpoints\.jsonl\.$/);
      assert.match(said[1]!, /^The public key is the one in the database, /);
    });

    it('says what was changed, and fails', async () => {
      await run(`update audit_entries set actor = 'nobody' where chain = 'operator' and n = 3`);
      const { written, code } = await audit('verify');
      assert.equal(code, 1);
      assert.equal(
        written,
        'The chain operator was changed: entry 3, or the hash of entry 2, is not what was recorded.\n' +
          '1 found: 24 entries, 4 chains, 12 checkpoints\n',
      );
    });

    it('says it as JSON', async () => {
      const key = (await audit('key')).written.trim();
      const whole = await audit('verify', '--json', '--public-key', key, '--checkpoints', world.file);
      assert.deepEqual(JSON.parse(whole.written), {
        ok: true,
        chains: 4,
        entries: 24,
        checkpoints: 12,
        outside: { file: world.file, checkpoints: 12 },
        public_key: { key, by: 'the option' },
        found: 0,
        findings: [],
      });
      assert.deepEqual([whole.said, whole.code], [[], 0]);
      await run(`delete from audit_checkpoints where n = 3`);
      const { written, code } = await audit('verify', '--json');
      const { ok, found, findings, public_key: used } = JSON.parse(written);
      assert.deepEqual([ok, used, code], [false, { key, by: 'the database' }, 1]);
      // One by the gap, and one by the copy outside.
      assert.equal(found, 2);
      assert.deepEqual(findings[0], { n: 3, says: 'Checkpoint 3 is missing.' });
    });

    it('believes another key less than the one that was kept', async () => {
      const kept = (await audit('key')).written.trim();
      assert.equal((await audit('verify', '--public-key', kept)).code, 0);
      const other = writePublicKey(generateKeyPairSync('ed25519').publicKey);
      const { written, code } = await audit('verify', '--public-key', other);
      assert.equal(code, 1);
      assert.match(written, /^Checkpoint 1 is not signed by the key of this log; it was changed, or forged\.\n/);
    });

    it('misses the checkpoints of a broker whose key was kept', async () => {
      const kept = (await audit('key')).written.trim();
      keepsCopy = false;
      rmSync(join(data, CHECKPOINT_FILE));
      await run('delete from audit_checkpoints');
      await run('delete from signing_keys');
      assert.equal((await audit('verify')).code, 0);
      const { written, code } = await audit('verify', '--public-key', kept);
      assert.deepEqual(
        [written, code],
        ['The database has no checkpoint.\n1 found: 24 entries, 4 chains, 0 checkpoints\n', 1],
      );
    });

    it('says that nothing outside was compared where there is nothing', async () => {
      keepsCopy = false;
      const { said, code } = await audit('verify');
      assert.equal(code, 0);
      assert.match(said[0]!, /^Nothing that is kept outside of the database was compared: /);
    });

    it('refuses a file that is not there, that has no checkpoint in it, and a key that is none', async () => {
      const missing = await audit('verify', '--checkpoints', join(world.folder, 'nowhere'));
      assert.match(missing.said[0]!, /^There is no file .*nowhere\.$/);
      const empty = join(world.folder, 'some.log');
      writeFileSync(empty, '{"message":"listening"}\n');
      const nothing = await audit('verify', '--checkpoints', empty);
      assert.match(
        nothing.said[0]!,
        /^There is no checkpoint in .*some\.log; give a copy of audit-checkpoints\.jsonl, or/,
      );
      const badKey = await audit('verify', '--public-key', 'AAAA');
      assert.match(badKey.said[0]!, /It is 32 bytes in base64/);
      for (const { code, written } of [missing, nothing, badKey]) assert.deepEqual([code, written], [1, '']);
    });

    it('shows a thousand sentences at most, and counts the others', async () => {
      await run(`delete from audit_entries where chain <> 'operator'`);
      const more = Array.from({ length: 1100 }, (_, n) => `('broker-${n}', 1, 0, '')`).join(', ');
      await run(`insert into audit_chains (id, started_at, length, head) values ${more}`);
      const { written } = await audit('verify');
      const lines = written.trimEnd().split('\n');
      assert.equal(lines.length, 1002);
      assert.match(lines[1000]!, /^and 1\d\d more$/);
    });
  });

  describe('list', () => {
    it('shows the latest first, as a table', async () => {
      const lines = (await audit('list', '--limit', '2')).written.split('\n');
      assert.equal(lines.length, 3);
      assert.match(
        lines[0]!,
        /^2026-01-01T\d\d:\d\d:\d\d\.000Z {2}rotation\.asked {2}c5 {2}by person:someone {2}\{"from":"old .*\} {2}req_1$/,
      );
      assert.match(lines[1]!, /^2026-01-01T\S+ {2}device\.renamed {2}c5 {2}by person:someone {2}\{"n":5\} {2}/);
    });

    it('shows what was asked for alone', async () => {
      assert.equal((await audit('list')).written.trimEnd().split('\n').length, 24);
      assert.equal((await audit('list', '--action', 'rotation.asked')).written.trimEnd().split('\n').length, 6);
      const both = await audit('list', '--action', 'rotation.asked', '--target', 'a2');
      assert.match(both.written, /^\S+ {2}rotation\.asked {2}a2 [^\n]*\n$/);
      const none = await audit('list', '--target', 'nobody');
      assert.deepEqual([none.written, none.said], ['', ['There is no such entry.']]);
    });

    it('lets no name of a device move the cursor or turn a line around', async () => {
      await world.record(world.operator, { target: '\u001b[2Jwiped\u009b1m\u202eslived\n' });
      const { written } = await audit('list', '--limit', '1');
      assert.match(written, /\uFFFD\[2Jwiped\uFFFD1m\uFFFDslived\uFFFD/);
      assert.equal(written.trimEnd().split('\n').length, 1);
    });

    for (const limit of ['0', '-1', '1.5', 'ten', '10000']) {
      it(`refuses the limit ${limit}`, async () => {
        const { said, written, code } = await audit('list', `--limit=${limit}`);
        assert.match(said[0]!, /It is a number from 1 to 9999/);
        assert.deepEqual([written, code], ['', 1]);
      });
    }
  });

  describe('export', () => {
    const lines = async (...words: string[]) =>
      (await audit('export', ...words)).written
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Line);

    /** What a reader would write who has the documentation and nothing else. Gives how many entries and signatures held. */
    function check(exported: Line[]) {
      const held = { entries: 0, checkpoints: 0, heads: 0 };
      const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
      const hashes = new Map<string, string>();
      const key = {
        kty: 'OKP',
        crv: 'Ed25519',
        x: Buffer.from(exported[0]!.auditKey!, 'base64').toString('base64url'),
      };
      let previous = '';
      for (const { auditChain, auditEntry: e } of exported) {
        if (auditChain !== undefined) previous = auditChain.after.hash;
        if (e === undefined) continue;
        const fields = [e.chain, e.n, e.at, e.actor, e.action, e.target, e.details, e.request_id];
        previous = sha256(encode(['sallyport/audit-entry/v1', previous, ...fields]));
        assert.equal(previous, e.hash);
        hashes.set(`${e.chain} ${e.n}`, e.hash);
        held.entries++;
      }
      for (const { auditCheckpoint: c } of exported) {
        if (c === undefined) continue;
        const signed = encode(['sallyport/audit-checkpoint/v1', c.n, c.at, c.heads, c.previous, c.key_id]);
        assert.ok(verify(null, signed, { key, format: 'jwk' }, Buffer.from(c.signature, 'base64')));
        held.checkpoints++;
        for (const [chain, length, head] of JSON.parse(c.heads) as [string, number, string][]) {
          if (hashes.get(`${chain} ${length}`) === head) held.heads++;
        }
      }
      return held;
    }

    it('has all that it takes to verify it without the database', async () => {
      const exported = await lines();
      assert.deepEqual(check(exported), { entries: 24, checkpoints: 12, heads: 18 });
      assert.equal(exported.filter(({ auditChain }) => auditChain !== undefined).length, 4);
    });

    it('leaves out what is older, and what is left can still be verified', async () => {
      const rows = await fresh().database.read.selectFrom('audit_entries').select('at').orderBy('at').execute();
      const since = new Date(rows[20]!.at).toISOString();
      const exported = await lines('--since', since);
      assert.equal(check(exported).entries, 4);
      const times = exported.flatMap(({ auditEntry, auditCheckpoint }) => auditEntry?.at ?? auditCheckpoint?.at ?? []);
      assert.ok(times.every((at) => at >= rows[20]!.at));
      assert.equal(check(await lines('--since', '2026-01-01')).entries, 24);
      assert.equal(check(await lines('--since', '2027-01-01')).entries, 0);
    });

    it('is itself a copy outside, by which a cut is found', async () => {
      const file = join(world.folder, 'export.jsonl');
      await world.record(world.operator, { target: 'after the last checkpoint' });
      writeFileSync(file, (await audit('export')).written);
      assert.equal((await audit('verify', '--checkpoints', file)).code, 0);
      await run(`delete from audit_entries where target = 'after the last checkpoint'`);
      await run(
        `update audit_chains set length = 6, head = (select hash from audit_entries where chain = 'operator' and n = 6) where id = 'operator'`,
      );
      assert.equal((await audit('verify')).code, 0);
      const { written, code } = await audit('verify', '--checkpoints', file);
      assert.equal(code, 1);
      assert.match(
        written,
        /^The chain operator was cut off after entry 6; a line kept outside vouches for 7 entries\.\n/,
      );
    });

    for (const time of ['yesterday', '2026-13-01', '2026-01-01T12:00', '1700000000', '']) {
      it(`refuses the time ${JSON.stringify(time)}`, async () => {
        const { said, code } = await audit('export', `--since=${time}`);
        assert.match(said[0]!, /It is a day, or a time with its zone/);
        assert.equal(code, 1);
      });
    }
  });

  describe('key', () => {
    it('prints the public key alone', async () => {
      const { written, said } = await audit('key');
      assert.match(written, /^[A-Za-z\d+/]{43}=\n$/);
      assert.deepEqual(said, []);
    });

    it('says that there is none yet', async () => {
      await run('delete from signing_keys');
      const { said, code } = await audit('key');
      assert.deepEqual([said, code], [['There is no key yet; a broker makes it when it first starts.'], 1]);
    });
  });

  it('is a verb of the program', function () {
    this.timeout(30_000);
    config();
    const program = fileURLToPath(new URL('../main.ts', import.meta.url));
    const { status, stdout } = spawnSync(process.execPath, [program, 'audit', 'verify'], {
      env: env(),
      cwd: world.folder,
      encoding: 'utf8',
    });
    assert.deepEqual([status, stdout], [0, 'ok: 24 entries, 4 chains, 12 checkpoints\n']);
  });
});

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readConfig, type Config } from '../config/config.ts';
import { DatabaseError } from '../store/database.ts';
import { migrate as applyMigrations, pendingMigrations } from '../store/migrations.ts';
import { openStore, openUnmigrated } from '../store/open-store.ts';
import { postgresServer } from '../store/postgres.test-support.ts';
import { migrateCommand } from './migrate.ts';
import type { Terminal } from './terminal.ts';

const run = promisify(execFile);
const MAIN = join(import.meta.dirname, '../main.ts');

for (const kind of ['sqlite', 'postgres'] as const) {
  describe(`migrate, on ${kind}`, () => {
    let folder: string;
    let yaml: string;

    beforeEach(async function () {
      const server = kind === 'postgres' ? await postgresServer() : undefined;
      if (kind === 'postgres' && server === undefined) return this.skip();
      folder = mkdtempSync(join(tmpdir(), 'sallyport-migrate-'));
      const url = server === undefined ? '' : `url: "${await server.freshUrl()}", `;
      yaml = `data: "${join(folder, 'data')}"\ndatabase: { ${url}migrate: false }\nencryption: { keys: ["${'ab'.repeat(32)}"] }\n`;
    });
    afterEach(() => rmSync(folder, { recursive: true, force: true }));

    function config(): Config {
      const { config: read, mistakes } = readConfig({ env: {}, cwd: folder, readFile: () => yaml });
      assert.ok(read, JSON.stringify(mistakes));
      return read;
    }

    async function migrate() {
      const shown = { said: [] as string[], written: '', code: 0 };
      const terminal: Terminal = {
        readConfig: config,
        now: Date.now,
        say: (line) => void shown.said.push(line),
        write: (text) => void (shown.written += text),
        exit: (code) => void (shown.code = code),
        untilAskedToStop: () => Promise.resolve('SIGTERM'),
      };
      await migrateCommand(terminal).parseAsync([], { from: 'user' });
      return shown;
    }

    const voice = { now: Date.now, say: () => {} };

    it('brings the schema up to date, and a second time has nothing to do', async () => {
      assert.deepEqual(await migrate(), { said: [], written: '0001-identity\n', code: 0 });
      assert.deepEqual(await migrate(), { said: [], written: 'nothing to do\n', code: 0 });
      await (await openStore(config(), voice)).close();
    });

    it('is asked for by every command where a start is told not to migrate', async () => {
      const says =
        'The database lacks 0001-identity, and database.migrate is false; run sallyport-broker migrate first.';
      await assert.rejects(
        openStore(config(), voice),
        (error) => error instanceof DatabaseError && error.message === says,
      );
      const database = await openUnmigrated(config(), voice);
      assert.deepEqual(await pendingMigrations(database), ['0001-identity']);
      await database.close();
    });

    it('is not needed where a start migrates by itself', async () => {
      const database = await openStore(
        { ...config(), database: { ...config().database, migratesAtStart: true } },
        voice,
      );
      assert.deepEqual(await pendingMigrations(database), []);
      await database.close();
    });

    it('is done once when four processes begin at once', async () => {
      const file = join(folder, 'sallyport.yaml');
      writeFileSync(file, yaml);
      const four = Array.from({ length: 4 }, () => run(process.execPath, [MAIN, 'migrate', '--config', file]));
      const told = (await Promise.all(four)).map(({ stdout }) => stdout);
      assert.deepEqual(told.toSorted(), ['0001-identity\n', ...Array.from({ length: 3 }, () => 'nothing to do\n')]);
    });

    it('is done once when four connections begin at once', async () => {
      const databases = await Promise.all(Array.from({ length: 4 }, () => openUnmigrated(config(), voice)));
      const done = await Promise.all(databases.map((database) => applyMigrations(database, Date.now)));
      assert.deepEqual(done.flat(), ['0001-identity']);
      await Promise.all(databases.map((database) => database.close()));
    });

    it('fails with a sentence where there is no place for a database', async () => {
      writeFileSync(join(folder, 'data'), 'a file');
      yaml = yaml.replace(/url: "[^"]+"/, 'url: "postgresql://127.0.0.1:1/none"');
      const { said, code } = await migrate();
      assert.match(said.join(), /cannot be (?:made|opened): .*(?:EEXIST|ENOTDIR|ECONNREFUSED)/);
      assert.equal(code, 1);
    });
  });
}

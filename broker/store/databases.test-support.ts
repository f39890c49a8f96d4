import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Secret } from '@sallyport/protocol/secret.ts';
import { openDatabase, type Database, type Place } from './database.ts';
import { migrate } from './migrations.ts';
import { postgresServer } from './postgres.test-support.ts';

/** A database that exists for one test, and can be opened again as a second process would. */
export type FreshDatabase = {
  kind: Database['kind'];
  place: Place;
  database: Database;
  reopen: () => Promise<Database>;
  drop: () => Promise<void>;
};

/** An empty database of this kind with the schema of today; undefined where the machine has no Postgres. */
export async function freshDatabase(kind: Database['kind']): Promise<FreshDatabase | undefined> {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-store-'));
  const server = kind === 'postgres' ? await postgresServer() : undefined;
  if (kind === 'postgres' && server === undefined) return undefined;
  const place: Place =
    server === undefined
      ? { kind: 'sqlite', file: join(folder, 'sallyport.db') }
      : { kind: 'postgres', url: new Secret(await server.freshUrl()) };
  const opened: Database[] = [];
  const reopen = async () => {
    const database = await openDatabase(place, () => {});
    opened.push(database);
    return database;
  };
  const database = await reopen();
  await migrate(database, Date.now);
  return {
    kind,
    place,
    database,
    reopen,
    async drop() {
      await Promise.all(opened.map((one) => one.close()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The same tests on both databases, each test with an empty one of its own. */
export function onEachDatabase(title: string, tests: (fresh: () => FreshDatabase) => void): void {
  for (const kind of ['sqlite', 'postgres'] as const) {
    describe(`${title}, on ${kind}`, () => {
      let current: FreshDatabase | undefined;
      beforeEach(async function () {
        this.timeout(30_000);
        current = await freshDatabase(kind);
        if (current === undefined) this.skip();
      });
      afterEach(() => current?.drop());
      tests(() => current!);
    });
  }
}

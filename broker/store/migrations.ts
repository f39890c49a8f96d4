import { sql, type Kysely } from 'kysely';
import type { Database } from './database.ts';
import * as identity from './migrations/0001-identity.ts';

type Migration = { name: string; up: (db: Kysely<unknown>) => Promise<void> };

// Forward only, and each one such that the version before it still works: add, never rename or take away. While a service
// is replaced, both versions run. (Kysely's own migrator refuses a database that is ahead of the program.)
const MIGRATIONS: readonly Migration[] = [{ name: '0001-identity', up: identity.up }];

/** The names of the migrations that this database still lacks. */
export async function pendingMigrations(database: Database): Promise<string[]> {
  const hasAny = (await database.tableNames()).includes('migrations');
  const rows = hasAny ? await database.read.selectFrom('migrations').select('name').execute() : [];
  const applied = new Set(rows.map(({ name }) => name));
  return MIGRATIONS.map(({ name }) => name).filter((name) => !applied.has(name));
}

/** Brings the schema up to this version; two that begin at once do it one after the other. Gives the names of what it did. */
export async function migrate(database: Database, now: () => number): Promise<string[]> {
  if ((await pendingMigrations(database)).length === 0) return [];
  return database.write(async (tx) => {
    // SQLite's transaction locks the file as it begins.
    if (database.kind === 'postgres') await sql`select pg_advisory_xact_lock(7215001)`.execute(tx);
    await tx.schema
      .createTable('migrations')
      .ifNotExists()
      .addColumn('name', 'text', (column) => column.primaryKey())
      .addColumn('applied_at', 'bigint', (column) => column.notNull())
      .execute();
    const applied = new Set((await tx.selectFrom('migrations').select('name').execute()).map(({ name }) => name));
    const missing = MIGRATIONS.filter(({ name }) => !applied.has(name));
    for (const { name, up } of missing) {
      await up(tx as unknown as Kysely<unknown>);
      await tx.insertInto('migrations').values({ name, applied_at: now() }).execute();
    }
    return missing.map(({ name }) => name);
  });
}

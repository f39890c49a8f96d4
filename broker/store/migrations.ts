import { sql, type Kysely } from 'kysely';
import { DatabaseError, type Database } from './database.ts';
import * as identity from './migrations/0001-identity.ts';

type Migration = { name: string; up: (db: Kysely<unknown>) => Promise<void> };

// Forward only, and each one such that the version before it still works: add, never rename or take away. While a service
// is replaced, both versions run. (Kysely's own migrator refuses a database that is ahead of the program.) A column that
// is added has a default or may be null: rows of an older backup are put into the tables of today.
const MIGRATIONS: readonly Migration[] = [{ name: '0001-identity', up: identity.up }];

/** The names of all migrations of this version, in their order. */
export const MIGRATION_NAMES: readonly string[] = MIGRATIONS.map(({ name }) => name);

/** The names of the migrations that this database still lacks. */
export async function pendingMigrations(database: Database): Promise<string[]> {
  const rows = (await hasTable(database)) ? await database.read.selectFrom('migrations').select('name').execute() : [];
  const applied = new Set(rows.map(({ name }) => name));
  return MIGRATION_NAMES.filter((name) => !applied.has(name));
}

/** Brings the schema up to this version; two that begin at once do it one after the other. Gives the names of what it did. */
export async function migrate(database: Database, now: () => number): Promise<string[]> {
  try {
    return (await pendingMigrations(database)).length === 0 ? [] : await apply(database, now);
  } catch (error) {
    const cause = ((error as Error).cause ?? error) as Error;
    throw new DatabaseError(
      `The schema of the database cannot be brought up to date: ${cause.message}; give Sallyport a database of its own, and a user that may create tables in it.`,
      { cause },
    );
  }
}

function apply(database: Database, now: () => number): Promise<string[]> {
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

async function hasTable({ kind, read }: Database): Promise<boolean> {
  const found =
    kind === 'sqlite'
      ? sql<{ name: string | null }>`select name from sqlite_schema where name = 'migrations'`
      : sql<{ name: string | null }>`select to_regclass('migrations') as name`;
  const [row] = (await found.execute(read)).rows;
  return row !== undefined && row.name !== null;
}

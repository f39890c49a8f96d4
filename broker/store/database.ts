import { chmodSync, closeSync, openSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { Kysely, PostgresDialect, sql, type Transaction as KyselyTransaction } from 'kysely';
import { Pool, types } from 'pg';
import { ApiError } from '@sallyport/protocol/errors.ts';
import type { Secret } from '@sallyport/protocol/secret.ts';
import { sqliteDialect } from './sqlite-dialect.ts';
import type { Tables } from './tables.ts';

/** What is done all together or not at all. */
export type Transaction = KyselyTransaction<Tables>;

/** Where reading goes: outside of a transaction, or inside one. */
export type Reader = Kysely<Tables> | Transaction;

/** What must outlive the process: one database, spoken to in one way whichever of the two it is. */
export type Database = {
  kind: 'sqlite' | 'postgres';
  read: Kysely<Tables>;
  /** Everything in one transaction; once it resolves, nothing that it wrote is lost when the process is killed. */
  write<Value>(act: (tx: Transaction) => Promise<Value>): Promise<Value>;
  tableNames(): Promise<string[]>;
  close(): Promise<void>;
};

/** Where a database is. */
export type Place = { kind: 'sqlite'; file: string } | { kind: 'postgres'; url: Secret };

/** Thrown with a sentence for the operator when the database cannot be opened. */
export class DatabaseError extends Error {
  override name = 'DatabaseError';
}

// Another process, a command beside the running broker, writes for a few milliseconds at a time.
const BUSY_MS = 5_000;
const CONNECT_MS = 3_000;
const STATEMENT_MS = 10_000;
const MOST_CONNECTIONS = 10;
const MOST_ATTEMPTS = 4;

/** Opens the database, and asks it something, so that a wrong address is found now. */
export async function openDatabase(place: Place, warn: (error: Error) => void): Promise<Database> {
  const db = place.kind === 'sqlite' ? openSqlite(place.file) : openPostgres(place.url, warn);
  const database: Database = {
    kind: place.kind,
    read: db,
    write: (act) => attempt(() => db.transaction().execute(act)),
    tableNames: async () => (await db.introspection.getTables()).map(({ name }) => name),
    close: () => db.destroy(),
  };
  try {
    await sql`select 1`.execute(db);
  } catch (cause) {
    await db.destroy();
    throw new DatabaseError(unopened(place, cause as Error), { cause });
  }
  return database;
}

function openSqlite(file: string): Kysely<Tables> {
  let handle: DatabaseSync | undefined;
  try {
    // Made by us before SQLite would, so that nobody else may read it; its companions take over its mode.
    closeSync(openSync(file, 'a', 0o600));
    chmodSync(file, 0o600);
    handle = new DatabaseSync(file, { timeout: BUSY_MS });
    // FULL: what was acknowledged survives a power cut, where the disk tells the truth.
    handle.exec('pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on');
    return new Kysely<Tables>({ dialect: sqliteDialect(handle) });
  } catch (cause) {
    handle?.close();
    throw new DatabaseError(unopened({ kind: 'sqlite', file }, cause as Error), { cause });
  }
}

const INT8 = 20;

function openPostgres(url: Secret, warn: (error: Error) => void): Kysely<Tables> {
  const pool = new Pool({
    connectionString: readUrl(url.reveal()),
    max: MOST_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_MS,
    statement_timeout: STATEMENT_MS,
    idle_in_transaction_session_timeout: STATEMENT_MS,
    keepAlive: true,
    application_name: 'sallyport',
    // Times and counts are far below 2^53; as text, which is what pg gives, they would compare as text.
    types: { getTypeParser: (oid, format) => (oid === INT8 ? Number : types.getTypeParser(oid, format)) },
  });
  // A connection that breaks while nobody uses it; without a listener it would end the process.
  pool.on('error', warn);
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
}

// SQLAlchemy names the driver in the scheme, and asyncpg calls sslmode `ssl`.
function readUrl(written: string): string {
  const url = new URL(written.replace(/^postgres(?:ql)?\+\w+:/, 'postgresql:'));
  const ssl = url.searchParams.get('ssl');
  if (ssl !== null && !url.searchParams.has('sslmode')) {
    url.searchParams.delete('ssl');
    url.searchParams.set('sslmode', ssl === 'true' ? 'require' : ssl);
  }
  return url.href;
}

async function attempt<Value>(act: () => Promise<Value>): Promise<Value> {
  for (let attempts = 1; ; attempts++) {
    try {
      return await act();
    } catch (error) {
      if (isConflict(error) && attempts < MOST_ATTEMPTS) continue;
      throw isUnavailable(error) ? storeUnavailable(error) : error;
    }
  }
}

/** What a request is answered while the database cannot be reached, or cannot write. */
export function storeUnavailable(cause: unknown): ApiError {
  return new ApiError('store_unavailable', { facts: { seconds: 2 }, headers: { 'retry-after': '2' }, cause });
}

// Two transactions wanted the same rows, and the database chose one (serialization failure, deadlock).
function isConflict(error: unknown): boolean {
  return ['40001', '40P01'].includes(codeOf(error));
}

const SQLITE_TROUBLE = new Set([5, 6, 7, 8, 10, 11, 13, 14, 26]); // busy … not a database: none of it is the caller's doing
const POSTGRES_TROUBLE = /^(?:08|25006|53|57|58|XX|28|3D)/; // connection, read-only, resources, shut down, system, login

/** Whether an error is about the database itself, not about what it was asked. */
export function isUnavailable(error: unknown): boolean {
  const { errcode, syscall, message } = error as { errcode?: number; syscall?: string; message?: string };
  if (errcode !== undefined) return SQLITE_TROUBLE.has(errcode & 0xff);
  return (
    syscall !== undefined ||
    POSTGRES_TROUBLE.test(codeOf(error)) ||
    /timeout|Connection terminated|not queryable/.test(message ?? '')
  );
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : '';
}

function unopened(place: Place, error: Error): string {
  if (place.kind === 'sqlite') {
    return `The database ${place.file} cannot be opened: ${error.message}; make its folder writable, or set DATABASE_URL to a Postgres.`;
  }
  const { host, pathname } = new URL(readUrl(place.url.reveal()));
  return `The database ${pathname.slice(1)} at ${host} cannot be opened: ${error.message}; check DATABASE_URL, and that this machine may reach it.`;
}

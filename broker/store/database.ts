import { AsyncLocalStorage } from 'node:async_hooks';
import { chmodSync, closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { DatabaseSync } from 'node:sqlite';
import { Kysely, PostgresDialect, sql, type Dialect, type Transaction as KyselyTransaction } from 'kysely';
import { Pool, types } from 'pg';
import type { Secret } from '@sallyport/protocol/secret.ts';
import { OperatorError } from '../log/operator-error.ts';
import { sqliteDialect, STANDSTILL_MS } from './sqlite-dialect.ts';
import type { Tables } from './tables.ts';
import { answering, isConflict, storeUnavailable } from './unavailable.ts';

/** What is done all together or not at all. */
export type Transaction = KyselyTransaction<Tables>;

/** Where reading goes: outside of a transaction, or inside one. */
export type Reader = Kysely<Tables> | Transaction;

/**
 * What must outlive the process: one database, spoken to in one way whichever of the two it is. While it cannot be used,
 * whatever is asked of it throws `store_unavailable`.
 */
export type Database = {
  kind: 'sqlite' | 'postgres';
  read: Kysely<Tables>;
  /** Everything in one transaction; once it resolves, nothing that it wrote is lost when the process is killed. */
  write<Value>(act: (tx: Transaction) => Promise<Value>): Promise<Value>;
  /** Reads everything as it was at one moment, while others go on writing. */
  snapshot<Value>(act: (tx: Transaction) => Promise<Value>): Promise<Value>;
  tableNames(): Promise<string[]>;
  close(): Promise<void>;
};

/** Where a database is. */
export type Place = { kind: 'sqlite'; file: string } | { kind: 'postgres'; url: Secret };

/** How long to be patient. */
export type Patience = {
  /** With another process that writes, a command beside the running broker; and with our own transactions before this one. */
  busyMs: number;
  /** Until a Postgres takes the connection. */
  connectMs: number;
  /** With one statement, and with a transaction that asks nothing. */
  statementMs: number;
};

/** Thrown with a sentence for the operator when the database cannot be opened. */
export class DatabaseError extends OperatorError {
  override name = 'DatabaseError';
}

const PATIENCE: Patience = { busyMs: 5_000, connectMs: 3_000, statementMs: 10_000 };
const MOST_CONNECTIONS = 10;
const MOST_ATTEMPTS = 4;

/** Opens the database, and asks it something, so that a wrong address is found now. */
export async function openDatabase(
  place: Place,
  warn: (error: Error) => void,
  patience: Partial<Patience> = {},
): Promise<Database> {
  const whole = { ...PATIENCE, ...patience };
  const nesting = refuseNesting();
  const dialect = place.kind === 'sqlite' ? openSqlite(place.file, whole) : openPostgres(place.url, whole, warn);
  const db = new Kysely<Tables>({ dialect: answering(dialect, nesting.check) });
  const transaction = <Value>(act: (tx: Transaction) => Promise<Value>, isReadOnly: boolean) => {
    const inside = (tx: Transaction) => nesting.inside(() => act(tx));
    if (!isReadOnly) return db.transaction().execute(inside);
    return db.transaction().setAccessMode('read only').setIsolationLevel('repeatable read').execute(inside);
  };
  const database: Database = {
    kind: place.kind,
    read: db,
    write: (act) => attempt(() => transaction(act, false)),
    snapshot: (act) => transaction(act, true),
    tableNames: async () => (await db.introspection.getTables()).map(({ name }) => name),
    close: () => db.destroy(),
  };
  try {
    // It makes SQLite read the file, which opening alone does not.
    await sql`select count(*) from ${sql.table(place.kind === 'sqlite' ? 'sqlite_schema' : 'pg_catalog.pg_tables')}`.execute(
      db,
    );
  } catch (error) {
    await db.destroy();
    throw unopened(place, (error as Error).cause ?? error);
  }
  return database;
}

// SQLite has one connection: a transaction that waits for another query than its own waits for itself. Postgres would let
// it pass until as many do so as there are connections; refused on both, it is found by whoever writes it.
function refuseNesting() {
  const running = new AsyncLocalStorage<{ isOver: boolean }>();
  return {
    check() {
      if (running.getStore()?.isOver === false) {
        throw new Error('The database was asked beside the transaction in which this runs; ask the transaction.');
      }
    },
    inside<Value>(act: () => Promise<Value>): Promise<Value> {
      const transaction = { isOver: false };
      return running.run(transaction, act).finally(() => void (transaction.isOver = true));
    },
  };
}

function openSqlite(file: string, { busyMs }: Patience): Dialect {
  let handle: DatabaseSync | undefined;
  try {
    // Made by us before SQLite would, so that nobody else may read it; its companions take over its mode.
    closeSync(openSync(file, 'a', 0o600));
    chmodSync(file, 0o600);
    handle = new DatabaseSync(file, { timeout: busyMs });
    // FULL: what was acknowledged survives a power cut, where the disk tells the truth.
    handle.exec('pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on');
    handle.exec(`pragma busy_timeout = ${STANDSTILL_MS}`);
    return sqliteDialect(handle, { busyMs });
  } catch (cause) {
    handle?.close();
    throw unopened({ kind: 'sqlite', file }, cause);
  }
}

const INT8 = 20;

function openPostgres(url: Secret, { connectMs, statementMs }: Patience, warn: (error: Error) => void): Dialect {
  const pool = new Pool({
    connectionString: readUrl(url.reveal()).href,
    max: MOST_CONNECTIONS,
    connectionTimeoutMillis: connectMs,
    idleTimeoutMillis: statementMs,
    statement_timeout: statementMs,
    idle_in_transaction_session_timeout: statementMs,
    keepAlive: true,
    // The server keeps the two limits above. One that has vanished keeps none, and is silent for longer than it may be.
    stream: () => socketWithEnd(statementMs + 2_000),
    application_name: APPLICATION_NAME,
    // Times and counts are far below 2^53; as text, which is what pg gives, they would compare as text.
    types: { getTypeParser: (oid, format) => (oid === INT8 ? Number : types.getTypeParser(oid, format)) },
  });
  // A connection that breaks while nobody uses it; without a listener it would end the process.
  pool.on('error', warn);
  // So would one that breaks between two statements of a transaction; the next statement fails, and says so to whoever asks.
  pool.on('connect', (client) => client.on('error', () => {}));
  return new PostgresDialect({ pool });
}

/** What our connections are called in pg_stat_activity. */
export const APPLICATION_NAME = 'sallyport';

function socketWithEnd(silenceMs: number): Socket {
  const socket = new Socket();
  return socket.setTimeout(silenceMs, () => socket.destroy(new Error('timeout: the server has fallen silent')));
}

// SQLAlchemy names the driver in the scheme, and asyncpg calls sslmode `ssl`.
function readUrl(written: string): URL {
  const url = new URL(written.replace(/^postgres(?:ql)?\+\w+:/, 'postgresql:'));
  const { searchParams } = url;
  const ssl = searchParams.get('ssl');
  if (ssl !== null) {
    searchParams.delete('ssl');
    if (!searchParams.has('sslmode')) searchParams.set('sslmode', ssl === 'true' ? 'require' : ssl);
  }
  // Today's pg verifies the certificate for each of these, and warns on every start that it will stop doing so.
  if (['prefer', 'require', 'verify-ca'].includes(searchParams.get('sslmode') ?? '')) {
    searchParams.set('sslmode', 'verify-full');
  }
  return url;
}

async function attempt<Value>(act: () => Promise<Value>): Promise<Value> {
  for (let attempts = 1; ; attempts++) {
    try {
      return await act();
    } catch (error) {
      if (!isConflict(error)) throw error;
      if (attempts === MOST_ATTEMPTS) throw storeUnavailable(error);
    }
  }
}

function unopened(place: Place, cause: unknown): DatabaseError {
  if (place.kind === 'sqlite') {
    return new DatabaseError(`The database ${place.file} cannot be opened: ${whyNotSqlite(cause)}.`, { cause });
  }
  const { host, searchParams, pathname } = readUrl(place.url.reveal());
  const where = searchParams.get('host') ?? host;
  const why = whyNotPostgres(cause);
  return new DatabaseError(`The database ${pathname.slice(1)} at ${where} cannot be opened: ${why}.`, { cause });
}

function whyNotSqlite(cause: unknown): string {
  const { errcode = 0, message } = cause as { errcode?: number; message: string };
  const advice =
    {
      5: 'another program holds it; end that one, or wait for it',
      11: 'keep the file, and restore a backup beside it (docs/storage.md)',
      13: 'make room on the disk',
      26: 'keep the file, and restore a backup beside it (docs/storage.md)',
    }[errcode & 0xff] ?? 'make the file and its folder writable, or set DATABASE_URL to a Postgres';
  return `${message}; ${advice}`;
}

function whyNotPostgres(cause: unknown): string {
  const error = cause as { message?: string; code?: string; errors?: { message: string }[] };
  // A name with several addresses: one error for each, and no message of its own.
  const message = error.errors?.map((one) => one.message).join(', ') || error.message;
  const { code = '' } = error;
  if (code.startsWith('28')) return `${message}; check the user and the password in DATABASE_URL`;
  if (code === '3D000') return `${message}; create it, or correct the name at the end of DATABASE_URL`;
  if (code === '53300') return `${message}; give the server more connections, or run fewer brokers`;
  if (message?.includes('does not support SSL')) {
    return `${message}; switch TLS on at the server, or, where nobody can listen on the way, write sslmode=disable in DATABASE_URL`;
  }
  if (/certificate|altnames/i.test(message ?? '')) {
    return `${message}; name the file of its authority in DATABASE_URL, as sslrootcert=/path/to/ca.pem`;
  }
  return `${message}; check DATABASE_URL, and that this machine may reach it`;
}

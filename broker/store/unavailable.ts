import type { DatabaseConnection, Dialect, Driver } from 'kysely';
import { ApiError } from '@sallyport/protocol/errors.ts';

/** What a request is answered while the database cannot be reached, or cannot write. */
export function storeUnavailable(cause: unknown): ApiError {
  return new ApiError('store_unavailable', { facts: { seconds: 2 }, headers: { 'retry-after': '2' }, cause });
}

/** Two transactions wanted the same rows, and the database chose one: serialization failure, deadlock. */
export function isConflict(error: unknown): boolean {
  return ['40001', '40P01'].includes(codeOf(error));
}

/** What our own SQLite driver throws when it was somebody else's turn for too long. */
export class TurnError extends Error {
  override name = 'TurnError';
}

const SQLITE_TROUBLE = new Set([5, 6, 7, 8, 10, 11, 13, 14, 26]); // busy … not a database: none of it is the caller's doing
// Connection, read-only, resources, shut down, system, login; and tables or columns that another version has yet to add.
const POSTGRES_TROUBLE = /^(?:08|25006|53|57|58|XX|28|3D|42P01|42703)/;
const BROKEN = /timeout|Connection terminated|not queryable|discarded|SSL connection|socket disconnected/;

/** Whether an error of a database's driver is about the database itself, not about what it was asked. */
export function isUnavailable(error: unknown): boolean {
  const { errcode, syscall, message } = error as { errcode?: number; syscall?: string; message?: string };
  if (errcode !== undefined)
    return SQLITE_TROUBLE.has(errcode & 0xff) || /^no such (?:table|column)/.test(message ?? '');
  return (
    error instanceof TurnError ||
    // Every address of a name refused.
    error instanceof AggregateError ||
    syscall !== undefined ||
    POSTGRES_TROUBLE.test(codeOf(error)) ||
    BROKEN.test(message ?? '')
  );
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : '';
}

/**
 * A dialect whose driver says `store_unavailable` where the database cannot be used. All that is read and all that is
 * written comes through here, so nobody who asks has to remember it.
 */
export function answering(dialect: Dialect, beforeUse: () => void): Dialect {
  return {
    createAdapter: () => dialect.createAdapter(),
    createIntrospector: (db) => dialect.createIntrospector(db),
    createQueryCompiler: () => dialect.createQueryCompiler(),
    createDriver: () => answeringDriver(dialect.createDriver(), beforeUse),
  };
}

function answeringDriver(driver: Driver, beforeUse: () => void): Driver {
  const known = new WeakSet<DatabaseConnection>();
  return {
    init: (options) => driver.init(options),
    async acquireConnection(options) {
      beforeUse();
      const connection = await translated(driver.acquireConnection(options));
      if (!known.has(connection)) {
        known.add(connection);
        const ask = connection.executeQuery.bind(connection);
        // Its own object is changed, not wrapped: the driver knows its connections by identity.
        connection.executeQuery = (query, how) => translated(ask(query, how));
      }
      return connection;
    },
    beginTransaction: (connection, settings) => translated(driver.beginTransaction(connection, settings)),
    commitTransaction: (connection) => translated(driver.commitTransaction(connection)),
    rollbackTransaction: (connection) => translated(driver.rollbackTransaction(connection)),
    releaseConnection: (connection, options) => driver.releaseConnection(connection, options),
    destroy: (options) => driver.destroy(options),
  };
}

async function translated<Value>(asked: Promise<Value>): Promise<Value> {
  try {
    return await asked;
  } catch (error) {
    throw !(error instanceof ApiError) && isUnavailable(error) ? storeUnavailable(error) : error;
  }
}

import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { setTimeout as wait } from 'node:timers/promises';
import {
  CompiledQuery,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  type TransactionSettings,
} from 'kysely';
import { TurnError } from './unavailable.ts';

const MOST_STATEMENTS = 200;
const BUSY = 5;

/** How long SQLite itself waits for a lock. It does that with the whole process at a standstill, so it is short. */
export const STANDSTILL_MS = 20;
const PAUSE_MS = 20;

/**
 * Kysely on Node's own SQLite. One connection, taken by one transaction or one query at a time; who cannot have it, or
 * cannot begin to write because another process does, gives up after this long.
 */
export function sqliteDialect(file: DatabaseSync, { busyMs }: { busyMs: number }): Dialect {
  return {
    createAdapter: () => new OneAtATimeHere(),
    createDriver: () => new SqliteDriver(file, busyMs),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
}

// Told that there is one connection only, Kysely would queue for it by itself, without end and before our driver is asked.
class OneAtATimeHere extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true;
  }
}

class SqliteDriver implements Driver {
  readonly #file: DatabaseSync;
  readonly #busyMs: number;
  readonly #connection: DatabaseConnection;
  readonly #waiting: (() => void)[] = [];
  #isTaken = false;

  constructor(file: DatabaseSync, busyMs: number) {
    this.#file = file;
    this.#busyMs = busyMs;
    this.#connection = connectionTo(file);
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    if (this.#isTaken) await this.#turn();
    this.#isTaken = true;
    return this.#connection;
  }

  async releaseConnection(): Promise<void> {
    const next = this.#waiting.shift();
    if (next === undefined) this.#isTaken = false;
    else next();
  }

  // Whoever holds the connection for ever must not hold everyone else up for ever, and a queue has an end.
  #turn(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const mine = () => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(() => {
      this.#waiting.splice(this.#waiting.indexOf(mine), 1);
      reject(new TurnError(`the transactions before this one took longer than ${this.#busyMs} ms`));
    }, this.#busyMs);
    this.#waiting.push(mine);
    return promise;
  }

  // Immediate: a transaction that reads first and writes later could find that another process has written in between, and
  // would be refused at once, however long the busy timeout is. One that only reads must not keep others from writing.
  async beginTransaction(_: DatabaseConnection, { accessMode }: TransactionSettings): Promise<void> {
    if (accessMode === 'read only') return this.#file.exec('pragma query_only = on; begin');
    for (let waitedMs = 0; ; waitedMs += STANDSTILL_MS + PAUSE_MS) {
      try {
        return this.#file.exec('begin immediate');
      } catch (error) {
        if (((error as { errcode?: number }).errcode ?? 0) % 256 !== BUSY || waitedMs >= this.#busyMs) throw error;
        await wait(PAUSE_MS);
      }
    }
  }

  async commitTransaction(): Promise<void> {
    this.#file.exec('commit; pragma query_only = off');
  }

  async rollbackTransaction(): Promise<void> {
    // A full disk or a failed read has rolled back already.
    if (this.#file.isTransaction) this.#file.exec('rollback');
    this.#file.exec('pragma query_only = off');
  }

  async destroy(): Promise<void> {
    this.#file.close();
  }
}

function connectionTo(file: DatabaseSync): DatabaseConnection {
  const statements = new Map<string, StatementSync>();
  const prepared = (sql: string) => {
    let statement = statements.get(sql);
    if (statement === undefined) {
      statement = file.prepare(sql);
      if (statements.size === MOST_STATEMENTS) statements.delete(statements.keys().next().value!);
      statements.set(sql, statement);
    }
    return statement;
  };
  return {
    async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
      const statement = prepared(sql);
      const values = parameters as SQLInputValue[];
      if (statement.columns().length > 0) return { rows: statement.all(...values) as Row[] };
      const { changes } = statement.run(...values);
      return { rows: [], numAffectedRows: BigInt(changes) };
    },
    streamQuery() {
      throw new Error('no query is streamed: Postgres would need a cursor for it; read page by page');
    },
  };
}

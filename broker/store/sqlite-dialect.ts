import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import {
  CompiledQuery,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
} from 'kysely';

const MOST_STATEMENTS = 200;

/** Kysely on Node's own SQLite. One connection, taken by one transaction or one query at a time. */
export function sqliteDialect(file: DatabaseSync): Dialect {
  return {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new SqliteDriver(file),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
}

class SqliteDriver implements Driver {
  readonly #file: DatabaseSync;
  readonly #connection: DatabaseConnection;
  #last: Promise<void> = Promise.resolve();
  #release: () => void = () => {};

  constructor(file: DatabaseSync) {
    this.#file = file;
    this.#connection = connectionTo(file);
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    const mine = Promise.withResolvers<void>();
    const before = this.#last;
    this.#last = mine.promise;
    await before;
    this.#release = mine.resolve;
    return this.#connection;
  }

  async releaseConnection(): Promise<void> {
    this.#release();
  }

  // Immediate: a transaction that reads first and writes later could find that another process has written in between, and
  // would be refused at once, however long the busy timeout is.
  async beginTransaction(): Promise<void> {
    this.#file.exec('begin immediate');
  }

  async commitTransaction(): Promise<void> {
    this.#file.exec('commit');
  }

  async rollbackTransaction(): Promise<void> {
    // A full disk or a failed read has rolled back already.
    if (this.#file.isTransaction) this.#file.exec('rollback');
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
    async *streamQuery<Row>({ sql, parameters }: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
      // A statement of its own: the one that is kept may be asked again before this one is through.
      for (const row of file.prepare(sql).iterate(...(parameters as SQLInputValue[]))) yield { rows: [row as Row] };
    },
  };
}

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { inspect } from 'node:util';
import { sql } from 'kysely';
import { Secret } from '@sallyport/protocol/secret.ts';
import { DatabaseError, openDatabase, type Database, type Patience } from './database.ts';
import { migrate } from './migrations.ts';
import { PASSWORD, runSql, startPostgres, type PostgresServer } from './postgres.test-support.ts';
import { enrol } from './writer.test-support.ts';

const UNAVAILABLE = { code: 'store_unavailable', status: 503, headers: { 'retry-after': '2' } };
const HEALED_WITHIN_MS = 5_000;

describe('Postgres in trouble', () => {
  let server: PostgresServer;
  let url: string;
  let warnings: Error[];
  const opened: Database[] = [];
  const listeners: Server[] = [];

  before(async function () {
    const started = await startPostgres({ isStrict: true });
    if (started === undefined) return this.skip();
    server = started;
  });
  beforeEach(async () => {
    url = await server.freshUrl();
    warnings = [];
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((database) => database.close()));
    for (const listener of listeners.splice(0)) listener.close();
  });
  after(() => server?.kill('SIGQUIT'));

  async function open(where = url, patience: Partial<Patience> = {}): Promise<Database> {
    const warn = (error: Error) => void warnings.push(error);
    const database = await openDatabase({ kind: 'postgres', url: new Secret(where) }, warn, patience);
    opened.push(database);
    return database;
  }

  const read = (database: Database) => database.read.selectFrom('devices').select('id').execute();
  /** Until every connection that it may have works again, and not only the one that comes first. */
  async function healed(database: Database): Promise<void> {
    const from = performance.now();
    const all = () => Promise.allSettled(Array.from({ length: 20 }, () => read(database)));
    while ((await all()).some(({ status }) => status === 'rejected')) await setTimeout(100);
    assert.ok(performance.now() - from < HEALED_WITHIN_MS, 'it took too long');
  }

  const changed = (change: (url: URL) => void) => {
    const other = new URL(url);
    change(other);
    return other.href;
  };

  async function listen(heard: (socket: Socket) => void): Promise<number> {
    const listening = createServer((socket) => heard(socket.on('error', () => {})));
    listeners.push(listening);
    await once(listening.listen(0, '127.0.0.1'), 'listening');
    return (listening.address() as AddressInfo).port;
  }

  /** The server behind a wire that can go dead: nothing comes through any more, and nobody is told. */
  async function wire() {
    let isDead = false;
    const through = (from: Socket, to: Socket) =>
      from.on('data', (bytes) => isDead || to.write(bytes)).on('close', () => isDead || to.destroy());
    const port = await listen((here) => {
      const there = connect(server.port, '127.0.0.1').on('error', () => {});
      through(here, there);
      through(there, here);
    });
    return { url: changed((other) => (other.port = String(port))), setDead: (dead: boolean) => void (isDead = dead) };
  }

  describe('at the start says what is wrong, and what to do', () => {
    const cases: Record<string, [() => Promise<string> | string, RegExp]> = {
      'nobody listens': [
        () => changed((other) => (other.port = '1')),
        /^The database t\d+_\d+ at 127\.0\.0\.1:1 cannot be opened: connect ECONNREFUSED 127\.0\.0\.1:1; check DATABASE_URL, and that this machine may reach it\.$/,
      ],
      'nobody listens at any address of a name': [
        () => changed((other) => ((other.port = '1'), (other.hostname = 'localhost'))),
        /cannot be opened: .*ECONNREFUSED.*; check DATABASE_URL/,
      ],
      'there is no such host': [
        () => changed((other) => (other.hostname = 'db.invalid')),
        /cannot be opened: getaddrinfo \w+ db\.invalid; check DATABASE_URL/,
      ],
      'somebody listens and is silent': [
        async () => {
          const port = await listen(() => {});
          return changed((other) => (other.port = String(port)));
        },
        /cannot be opened: .*timeout.*; check DATABASE_URL/,
      ],
      'somebody listens who is no Postgres': [
        async () => {
          const port = await listen((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
          return changed((other) => (other.port = String(port)));
        },
        /cannot be opened: .+; check DATABASE_URL/,
      ],
      'the password is wrong': [
        () => changed((other) => (other.password = `${PASSWORD}-not`)),
        /password authentication failed for user "postgres"; check the user and the password in DATABASE_URL\.$/,
      ],
      'there is no such database': [
        () => changed((other) => (other.pathname = '/elsewhere')),
        /database "elsewhere" does not exist; create it, or correct the name at the end of DATABASE_URL\.$/,
      ],
      'TLS is required and not offered': [
        () => `${url}?sslmode=require`,
        /The server does not support SSL connections; switch TLS on at the server, or, where nobody can listen on the way, write sslmode=disable/,
      ],
      'TLS is required in the words of asyncpg': [() => `${url}?ssl=require`, /does not support SSL connections/],
      'there are too many connections': [
        async () => {
          await runSql(url, `create role crowd login password '${PASSWORD}' connection limit 0`);
          return changed((other) => (other.username = 'crowd'));
        },
        /too many connections for role "crowd"; give the server more connections, or run fewer brokers\.$/,
      ],
    };
    for (const [why, [where, says]] of Object.entries(cases)) {
      it(`when ${why}, and never the password`, async () => {
        const from = performance.now();
        const error = await open(await where(), { connectMs: 400 }).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        assert.ok(error instanceof DatabaseError, inspect(error));
        assert.ok(performance.now() - from < 5_000);
        assert.match(error.message, says);
        assert.ok(!inspect(error, { depth: 20, showHidden: true }).includes(PASSWORD), 'the password is in it');
      });
    }

    it('when the user may not create tables', async () => {
      await runSql(url, `create role reader login password '${PASSWORD}'`);
      const database = await open(changed((other) => (other.username = 'reader')));
      const says =
        /^The schema of the database cannot be brought up to date: permission denied for schema public; give Sallyport a database of its own, and a user that may create tables in it\.$/;
      await assert.rejects(migrate(database, Date.now), (error: Error) => says.test(error.message));
    });
  });

  it('while the server is gone: refuses with 503, does not die, and heals by itself', async () => {
    const database = await open();
    await migrate(database, Date.now);
    for (const signal of ['SIGQUIT', 'SIGKILL'] as const) {
      const asked = { isOver: false };
      const outcomes = new Set<string>();
      const asking = Array.from({ length: 20 }, async (_, one) => {
        for (let n = 1; !asked.isOver; n++) {
          const act = one % 2 === 0 ? read(database) : database.write((tx) => enrol(tx, `${signal}-${one}-${n}`));
          outcomes.add(
            await act.then(
              () => 'ok',
              ({ code, message }: Error & { code?: string }) => code ?? message,
            ),
          );
          await setTimeout(1);
        }
      });
      await setTimeout(50);
      await (signal === 'SIGKILL' ? server.killWhole() : server.kill(signal));
      await setTimeout(200);
      asked.isOver = true;
      await Promise.all(asking);
      assert.deepEqual(outcomes, new Set(['ok', 'store_unavailable']));

      await server.start();
      await healed(database);
      await database.write((tx) => enrol(tx, `after-${signal}`));
    }
  });

  it('when a connection breaks between two statements of a transaction', async () => {
    const database = await open();
    await migrate(database, Date.now);
    const cut = () =>
      runSql(url, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sallyport'`);
    const writing = database.write(async (tx) => {
      await enrol(tx, 'half');
      await cut();
      await setTimeout(50);
      await enrol(tx, 'whole');
    });
    await assert.rejects(writing, UNAVAILABLE);
    assert.deepEqual(await read(database), []);
    assert.deepEqual(warnings, []);
  });

  it('when a connection breaks that nobody uses: a warning, and the next one is new', async () => {
    const database = await open();
    await migrate(database, Date.now);
    await runSql(url, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sallyport'`);
    await setTimeout(50);
    assert.deepEqual(
      warnings.map(({ message }) => message),
      ['terminating connection due to administrator command'],
    );
    assert.deepEqual(await read(database), []);
  });

  it('when the wire goes dead: nobody waits for ever, and it heals when the wire does', async () => {
    const dead = await wire();
    const database = await open(dead.url, { connectMs: 300, statementMs: 300 });
    await migrate(database, Date.now);
    dead.setDead(true);
    const outcomes = await Promise.allSettled([
      read(database),
      database.write((tx) => enrol(tx, 'lost')),
      ...Array.from({ length: 20 }, () => read(database)),
    ]);
    for (const outcome of outcomes) {
      assert.equal(outcome.status, 'rejected');
      assert.equal((outcome.reason as { code?: string }).code, 'store_unavailable');
    }
    dead.setDead(false);
    await healed(database);
  });

  it('when a statement takes too long', async () => {
    const database = await open(url, { statementMs: 200 });
    await assert.rejects(sql`select pg_sleep(5)`.execute(database.read), UNAVAILABLE);
    await assert.rejects(
      database.write((tx) => sql`select pg_sleep(5)`.execute(tx)),
      UNAVAILABLE,
    );
  });

  it('when a transaction asks nothing for too long', async () => {
    const database = await open(url, { statementMs: 200 });
    await assert.rejects(
      database.write(async (tx) => {
        await sql`select 1`.execute(tx);
        await setTimeout(500);
        await sql`select 1`.execute(tx);
      }),
      UNAVAILABLE,
    );
  });

  it('when two transactions lock each other out: both are done in the end', async () => {
    const database = await open();
    await migrate(database, Date.now);
    await database.write((tx) => enrol(tx, 'a'));
    await database.write((tx) => enrol(tx, 'b'));
    let attempts = 0;
    const rename = (first: string, second: string) =>
      database.write(async (tx) => {
        attempts++;
        await tx
          .updateTable('devices')
          .set({ name: `${first}${second}` })
          .where('id', '=', first)
          .execute();
        await setTimeout(100);
        await tx
          .updateTable('devices')
          .set({ name: `${first}${second}` })
          .where('id', '=', second)
          .execute();
      });
    await Promise.all([rename('a', 'b'), rename('b', 'a')]);
    // One of the two once more; on a slow machine they may meet again.
    assert.ok(attempts >= 3 && attempts <= 6, String(attempts));
  });

  it('when transactions get in each other’s way again and again: 503, after four attempts', async () => {
    const database = await open();
    let attempts = 0;
    const writing = database.write((tx) => {
      attempts++;
      return sql`do $$ begin raise exception 'not now' using errcode = '40001'; end $$`.execute(tx);
    });
    await assert.rejects(writing, UNAVAILABLE);
    assert.equal(attempts, 4);
  });

  it('and leaves alone what is a mistake of ours', async () => {
    const database = await open();
    await assert.rejects(sql`select 1 / 0`.execute(database.read), /^error: division by zero$/);
    await assert.rejects(
      database.write(() => Promise.reject(new Error('a timeout of something else'))),
      /^Error: a timeout of something else$/,
    );
  });
});

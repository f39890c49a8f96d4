import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, chownSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Client } from 'pg';

// A real Postgres of the system's, in a folder of its own, for the tests of this process. It forgets everything.

export type PostgresServer = {
  /** The URL of a new, empty database. */
  freshUrl: () => Promise<string>;
  /** The server itself, to be stopped and started by those who test what happens then. */
  port: number;
  kill: (signal: NodeJS.Signals) => Promise<void>;
  /** At once and with every process that it has, as when the machine goes. */
  killWhole: () => Promise<void>;
  start: () => Promise<void>;
};

let running: Promise<PostgresServer | undefined> | undefined;

/** The server, started when it is first asked for; undefined where this machine has none. In CI it must have one. */
export function postgresServer(): Promise<PostgresServer | undefined> {
  return (running ??= startPostgres());
}

/** A server of its own; a strict one waits for the disk at each commit, and asks for the password that is in its URLs. */
export async function startPostgres({ isStrict = false } = {}): Promise<PostgresServer | undefined> {
  const bin = findBinaries();
  if (bin === undefined) {
    if (process.env['CI'] === 'true') throw new Error('There is no Postgres; install the package postgresql.');
    console.log('      skipped: there is no Postgres on this machine; install the package postgresql');
    return undefined;
  }
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-postgres-'));
  // Postgres refuses to run as root, and its package brings a user.
  const user = process.getuid?.() === 0 ? idsOf('postgres') : undefined;
  const as = { ...user, cwd: folder, env: { ...process.env, LC_ALL: 'C.UTF-8' } };
  const data = join(folder, 'data');
  const passwordFile = join(folder, 'password');
  writeFileSync(passwordFile, PASSWORD);
  for (const path of [folder, passwordFile]) if (user !== undefined) chownSync(path, user.uid, user.gid);
  const entry = isStrict ? ['-A', 'scram-sha-256', `--pwfile=${passwordFile}`] : ['-A', 'trust'];
  execFileSync(join(bin, 'initdb'), ['-D', data, '-U', 'postgres', ...entry, '--no-sync'], { ...as, stdio: 'pipe' });
  const port = await freePort();
  const settings = [
    `port=${port}`,
    'listen_addresses=127.0.0.1',
    `unix_socket_directories=${folder}`,
    `fsync=${isStrict ? 'on' : 'off'}`,
  ];
  let server: ChildProcess;
  const address = `postgresql://postgres:${isStrict ? PASSWORD : ''}@127.0.0.1:${port}`;
  const adminUrl = `${address}/postgres`;
  const launch = () => {
    server = spawn(join(bin, 'postgres'), ['-D', data, ...settings.flatMap((one) => ['-c', one])], {
      ...as,
      stdio: 'ignore',
    });
  };
  const start = async () => {
    launch();
    for (let waited = 0; !(await answers(adminUrl)); waited++) {
      if (waited > 600) throw new Error('Postgres does not answer');
      // After a kill it refuses to begin while one of its old processes is still on its way out.
      if (server.exitCode !== null) launch();
      await setTimeout(50);
    }
  };
  const kill = async (signal: NodeJS.Signals) => {
    const gone = new Promise((resolve) => server.once('exit', resolve));
    server.kill(signal);
    await gone;
  };
  await start();
  process.once('exit', () => {
    server.kill('SIGQUIT');
    // Not waited for: a worker of the tests that takes long to end is killed, and what it counted is lost.
    spawn('sh', ['-c', 'sleep 1; rm -rf "$0"', folder], { detached: true, stdio: 'ignore' });
  });
  let made = 0;
  return {
    port,
    async freshUrl() {
      const name = `t${process.pid}_${++made}`;
      await runSql(adminUrl, `create database ${name}`);
      return `${address}/${name}`;
    },
    kill,
    async killWhole() {
      // Each of its processes has a group of its own, and goes on for a moment after the first one is gone.
      const processes = await runSql(adminUrl, 'select pid from pg_stat_activity');
      await kill('SIGKILL');
      for (const { pid } of processes) killIfThere(Number(pid));
    },
    start,
  };
}

/** The password of a strict server: what may stand in no message. */
export const PASSWORD = 'correct-horse-battery';

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It saw that the first one was gone, and went too.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function findBinaries(): string | undefined {
  const versions = globSync('/usr/lib/postgresql/*/bin').toSorted((a, b) => versionOf(b) - versionOf(a));
  const folders = [...versions, ...(process.env['PATH'] ?? '').split(':')];
  return folders.find((folder) => ['initdb', 'postgres'].every((program) => existsSync(join(folder, program))));
}

const versionOf = (path: string) => Number(/postgresql\/(\d+)/.exec(path)?.[1]);

function idsOf(user: string): { uid: number; gid: number } {
  const ask = (flag: string) => Number(execFileSync('id', [flag, user], { encoding: 'utf8' }));
  return { uid: ask('-u'), gid: ask('-g') };
}

async function answers(url: string): Promise<boolean> {
  return runSql(url, 'select 1').then(
    () => true,
    () => false,
  );
}

/** One statement, asked beside the code that is tested. */
export async function runSql(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  client.on('error', () => {});
  try {
    await client.connect();
    return (await client.query(sql)).rows as Record<string, unknown>[];
  } finally {
    await client.end().catch(() => {});
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import type { Report, Task } from './keychain-user.test-support.ts';

// A session of its own with a real gnome-keyring in it, as a person has one after the login.

const PARTS = ['dbus-daemon', 'dbus-send', 'gnome-keyring-daemon', 'secret-tool', 'gdbus'];

/** Whether this machine has what the tests of the keychain need; in CI it must. */
export function hasKeyring(): boolean {
  const lacking = PARTS.filter((part) => !isThere(part));
  if (lacking.length === 0) return true;
  const says = `there is no ${lacking.join(', ')}; install dbus, gnome-keyring, libsecret-tools and libglib2.0-bin`;
  if (process.env['CI'] === 'true') throw new Error(says);
  console.log(`      skipped: ${says}`);
  return false;
}

/** Whether keytar could be installed on this machine; in CI it must. */
export async function hasKeytar(): Promise<boolean> {
  try {
    await import('keytar');
    return true;
  } catch (cause) {
    const says = 'keytar is not installed; install libsecret-1-dev, make and g++, then run npm ci';
    if (process.env['CI'] === 'true') throw new Error(says, { cause });
    console.log(`      skipped: ${says}`);
    return false;
  }
}

/** Whether there is such a program on the path. */
export function isThere(program: string): boolean {
  try {
    execFileSync('sh', ['-c', 'command -v "$0"', program], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** A session, and what a test may do in it. */
export type Session = {
  home: string;
  environment: Record<string, string>;
  /** Starts the service with its keyring open; without this the bus starts it when it is asked for, without a keyring. */
  unlock(): Promise<void>;
  lock(): void;
  /** Meanwhile the service takes calls and answers none, as when it waits for somebody itself. */
  whileSilent(work: () => Promise<void>): Promise<void>;
  run(program: string, ...words: string[]): string;
  use(task: Partial<Task>, extra?: Record<string, string>): Promise<Report>;
  stop(): Promise<void>;
};

const NAME = 'org.freedesktop.secrets';
const ROOT = '/org/freedesktop/secrets';
const NO_BUS = 'unix:path=/nonexistent';

/** A session of its own; without a bus nobody will answer in it. */
export async function startSession({ hasBus = true } = {}): Promise<Session> {
  const home = mkdtempSync(join(tmpdir(), 'sallyport-session-'));
  const environment: Record<string, string> = {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    XDG_RUNTIME_DIR: home,
    DBUS_SESSION_BUS_ADDRESS: NO_BUS,
    // What these processes run counts as tested.
    ...(process.env['NODE_V8_COVERAGE'] !== undefined && { NODE_V8_COVERAGE: process.env['NODE_V8_COVERAGE'] }),
  };
  const processes: ChildProcess[] = [];
  const start = (program: string, words: string[]) => {
    const child = spawn(program, words, { env: environment, stdio: ['pipe', 'pipe', 'ignore'] });
    processes.push(child);
    return child;
  };
  if (hasBus) {
    const bus = start('dbus-daemon', ['--session', '--nofork', '--print-address=1']);
    for await (const line of createInterface(bus.stdout!)) {
      environment['DBUS_SESSION_BUS_ADDRESS'] = line;
      break;
    }
  }
  const run = (program: string, ...words: string[]) =>
    execFileSync(program, words, {
      env: environment,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 5000,
    });
  const call = (owner: string, path: string, method: string, ...words: string[]) =>
    run(
      'gdbus',
      'call',
      '--session',
      '--dest',
      owner,
      '--object-path',
      path,
      '--method',
      `${owner}.${method}`,
      ...words,
    );
  // Asked of the bus: a question to the service itself would start another one, with no keyring in it.
  const isServed = () => call('org.freedesktop.DBus', '/org/freedesktop/DBus', 'NameHasOwner', NAME).includes('true');
  const lockWords = ['--method', 'org.freedesktop.Secret.Service.Lock', `['${ROOT}/aliases/default']`];
  return {
    home,
    environment,
    async unlock() {
      const service = start('gnome-keyring-daemon', ['--unlock', '--components=secrets', '--foreground']);
      service.stdin!.end('correct horse\n');
      for (let tries = 0; !isServed(); tries++) {
        if (tries > 100) throw new Error('gnome-keyring does not start');
        await new Promise((resolve) => void setTimeout(resolve, 50));
      }
    },
    lock() {
      run('gdbus', 'call', '--session', '--dest', NAME, '--object-path', ROOT, ...lockWords);
    },
    async whileSilent(work) {
      const service = processes.at(-1);
      service?.kill('SIGSTOP');
      try {
        await work();
      } finally {
        service?.kill('SIGCONT');
      }
    },
    run,
    use: (task, extra) =>
      useKeychain({ folder: join(home, 'keychain'), steps: [], ...task }, { ...environment, ...extra }),
    async stop() {
      // The bus last: the service ends with it, and writes its keyring before that.
      for (const child of processes.toReversed()) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const gone = once(child, 'exit');
        child.kill('SIGTERM');
        await gone;
      }
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** Starts a process that uses a keychain, and waits for what it tells. */
export function useKeychain(task: Task, environment: Record<string, string>): Promise<Report> {
  const script = join(import.meta.dirname, 'keychain-user.test-support.ts');
  return new Promise((resolve, reject) => {
    const child = execFile(
      process.execPath,
      [script],
      { env: environment, timeout: 25_000 },
      (error, out, problems) => {
        if (error === null) resolve(JSON.parse(out) as Report);
        else reject(new Error(`it ended with ${error.code ?? error.signal}: ${problems}`, { cause: error }));
      },
    );
    child.stdin!.end(JSON.stringify(task));
  });
}

/** The path with a folder before it. */
export function pathWith(folder: string, { PATH = '' }: Record<string, string>): string {
  return `${folder}${delimiter}${PATH}`;
}

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const groups = new Set<ProcessGroup>();

// However this program ends, what it started ends with it: an nginx worker or a gateway left behind holds its port
// and, worse, spoils the next run.
process.once('exit', () => groups.forEach((group) => group.killNow()));

/** A command with everything it starts, in a process group of its own, so that ending it leaves no orphan. */
export class ProcessGroup {
  readonly #child: ChildProcess;
  readonly #logFile: string;
  #ended = false;

  constructor(command: readonly string[], place: { folder: string; logFile: string; env?: NodeJS.ProcessEnv }) {
    const [program = '', ...args] = command;
    const log = openSync(place.logFile, 'a');
    this.#logFile = place.logFile;
    this.#child = spawn(program, args, {
      cwd: place.folder,
      detached: true,
      stdio: ['ignore', log, log],
      env: { PATH: process.env['PATH'], HOME: place.folder, ...place.env },
    });
    closeSync(log);
    this.#child.once('error', () => (this.#ended = true));
    this.#child.once('exit', () => (this.#ended = true));
    groups.add(this);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** The end of what it printed: what to show when it would not start. */
  lastWords(): string {
    return readFileSync(this.#logFile, 'utf8').trim().split('\n').slice(-5).join('\n').slice(-1500);
  }

  /** Run time on any core of all threads of the whole tree so far, in nanoseconds. */
  cpuNs(): number {
    return this.#sum(cpuNsOf);
  }

  /** Resident memory of the whole tree, in bytes. */
  residentBytes(): number {
    return this.#sum((pid) => {
      const kilobytes = /^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
      return Number(kilobytes ?? 0) * 1024;
    });
  }

  /** Asks the tree to end, and makes it. */
  async stop(): Promise<void> {
    this.#signal('SIGTERM');
    for (let waited = 0; waited < 3000 && this.#exists(); waited += 50) await sleep(50);
    this.killNow();
  }

  killNow(): void {
    this.#signal('SIGKILL');
    groups.delete(this);
  }

  #sum(measure: (pid: number) => number): number {
    let sum = 0;
    for (const pid of this.#tree()) sum += unlessGone(() => measure(pid));
    return sum;
  }

  #tree(): number[] {
    const found = this.#child.pid === undefined ? [] : [this.#child.pid];
    for (const pid of found) found.push(...childrenOf(pid));
    return found;
  }

  #exists(): boolean {
    return this.#signal(0);
  }

  #signal(signal: NodeJS.Signals | 0): boolean {
    if (this.#child.pid === undefined) return false;
    try {
      return process.kill(-this.#child.pid, signal);
    } catch {
      return false;
    }
  }
}

/** Run time on any core of all threads of one process so far, in nanoseconds. */
export function cpuNsOf(pid: number): number {
  let sum = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) sum += threadNs(`/proc/${pid}/task/${thread}/schedstat`);
  return sum;
}

function childrenOf(pid: number): number[] {
  const children: number[] = [];
  unlessGone(() => {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const list = readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1');
      children.push(...list.split(' ').filter(Boolean).map(Number));
    }
    return 0;
  });
  return children;
}

function threadNs(file: string): number {
  return unlessGone(() => Number(readFileSync(file, 'latin1').split(' ', 1)[0]));
}

// Threads and processes may end between being listed and being read.
function unlessGone(read: () => number): number {
  try {
    return read();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ESRCH') return 0;
    throw error;
  }
}

import { execFileSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** What this machine has that the measuring depends on. */
export type Machine = {
  /** The core of the candidates and the core of load and mock; undefined when nothing is pinned. */
  cores: { candidate: number; load: number } | undefined;
  /** What is missing here and what that means, one line each. */
  remarks: string[];
  compiler: string | undefined;
  nginx: string | undefined;
};

/** Looks for the tools of the measuring. */
export function inspectMachine(): Machine {
  const remarks: string[] = [];
  const cores = chooseCores(remarks);
  const compiler = findProgram('cc');
  if (compiler === undefined) {
    remarks.push(
      'no C compiler: the mock upstream runs on Node and may be the bottleneck (apt-get install gcc libc6-dev)',
    );
  }
  return { cores, remarks, compiler, nginx: findProgram('nginx', ['/usr/sbin', '/usr/local/sbin']) };
}

/** The machine in one line, to print above the numbers. */
export function describeMachine(): string {
  const load = os.loadavg()[0] ?? 0;
  const model = os.cpus()[0]?.model.trim() ?? 'unknown processor';
  return `Node ${process.versions.node}, ${os.cpus().length} x ${model}, Linux ${os.release()}, load ${load.toFixed(2)}`;
}

/** Where a program of that name is, or undefined. */
export function findProgram(name: string, alsoIn: readonly string[] = []): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(path.delimiter), ...alsoIn];
  return folders.map((folder) => path.join(folder, name)).find(isProgram);
}

/** The command that runs another one on that core, or the command itself. */
export function onCore(core: number | undefined, command: readonly string[]): readonly string[] {
  return core === undefined ? command : ['taskset', '-c', String(core), ...command];
}

/** Moves this process, which is the load, with all its threads to a core. */
export function moveHere(core: number): void {
  execFileSync('taskset', ['-a', '-c', '-p', String(core), String(process.pid)], { stdio: 'ignore' });
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function chooseCores(remarks: string[]): Machine['cores'] {
  const [candidate, load] = allowedCores();
  if (candidate === undefined || load === undefined) {
    remarks.push('only one core: nothing is pinned, and load and candidates disturb each other');
    return undefined;
  }
  if (findProgram('taskset') === undefined) {
    remarks.push('no taskset: nothing is pinned, and the figures move more (apt-get install util-linux)');
    return undefined;
  }
  return { candidate, load };
}

// A container may hold cores 6 and 7 of its host and no core 0.
function allowedCores(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

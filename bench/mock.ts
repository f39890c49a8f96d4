import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { type Machine, onCore } from './machine.ts';
import { cpuNsOf } from './process-group.ts';

/** The pretend vendor, running. */
export type Mock = {
  port: number;
  cpuNs: () => number;
  /** How many streams it is still sending. */
  openStreams: () => Promise<number>;
  stop: () => void;
};

/** Compiles the mock into the folder and starts it beside the load; on Node where there is no compiler. */
export async function startMock(machine: Machine, folder: string): Promise<Mock> {
  const command = machine.compiler === undefined ? nodeMock() : compileMock(machine.compiler, folder);
  const [program = '', ...args] = onCore(machine.cores?.load, command);
  // The mock ends with its standard input, so it cannot outlive us whatever happens.
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const port = await firstLine(child);
  return {
    port,
    openStreams: () => askForStreams(port),
    cpuNs: () => cpuNsOf(child.pid ?? process.pid),
    stop: () => child.kill(),
  };
}

async function askForStreams(port: number): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } });
  const { streams } = (await answer.json()) as { streams: number };
  return streams;
}

function compileMock(compiler: string, folder: string): string[] {
  const program = path.join(folder, 'mock-upstream');
  const source = path.join(import.meta.dirname, 'mock-upstream.c');
  execFileSync(compiler, ['-O2', '-o', program, source], { stdio: ['ignore', 'inherit', 'inherit'] });
  return [program];
}

function nodeMock(): string[] {
  return [process.execPath, path.join(import.meta.dirname, 'mock-upstream.ts')];
}

async function firstLine(child: ChildProcess): Promise<number> {
  if (child.stdout === null) throw new TypeError('the mock has no standard output');
  const lines = createInterface({ input: child.stdout });
  const ended = once(child, 'exit').then(() => {
    throw new Error('the mock upstream ended before it said its port');
  });
  const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string];
  ended.catch(() => {});
  return Number(line);
}

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export type BrokerProcess = Awaited<ReturnType<typeof spawnBroker>>;

type Settings = {
  yaml: string;
  folder: string;
  lines: string[];
  /** The commit at which it is to be killed, as crashing-broker.ts reads it. */
  crash?: string | undefined;
};

/** A broker as a process of its own: what it holds in memory, and how it ends, is then its own too. */
export async function spawnBroker({ yaml, folder, lines, crash }: Settings) {
  const file = join(folder, 'sallyport.yaml');
  writeFileSync(file, yaml, { mode: 0o600 });
  const program = crash === undefined ? 'broker/main.ts' : 'e2e/crashing-broker.ts';
  const child = spawn(process.execPath, [program, 'serve', '--config', file], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, CRASH: crash },
  });
  // A test that fails before its end must not leave it running.
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  child.once('exit', () => process.off('exit', killAtExit));
  const exited = once(child, 'exit') as Promise<[code: number | null, signal: string | null]>;
  const listening = Promise.withResolvers<void>();
  const armed = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line);
    if (line.includes('"message":"listening"')) listening.resolve();
    if (line.includes('"message":"armed"')) armed.resolve();
  });
  void exited.then(([code]) => listening.reject(new Error(`the broker ended with ${code}: ${lines.join('\n')}`)));
  await listening.promise;
  if (crash !== undefined) {
    child.kill('SIGUSR2');
    await armed.promise;
  }
  return {
    pid: child.pid!,
    exited,
    kill: (signal: 'SIGTERM' | 'SIGKILL') => void child.kill(signal),
    /** The memory it holds, in bytes: resident, as Linux counts it. */
    residentBytes: () =>
      Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) * 1024,
  };
}

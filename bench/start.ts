import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Site } from './candidate.ts';
import { onCore } from './machine.ts';
import { ProcessGroup } from './process-group.ts';

const START_MS = 30_000;

/** Starts a command on the core of the candidates and waits until the path answers 200. */
export async function startCandidate(
  command: readonly string[],
  site: Site,
  readyPath: string,
  env: NodeJS.ProcessEnv = {},
): Promise<ProcessGroup> {
  const process = new ProcessGroup(onCore(site.machine.cores?.candidate, command), {
    folder: site.folder,
    logFile: path.join(site.folder, 'output.log'),
    env,
  });
  const giveUpAt = Date.now() + START_MS;
  while (!(await answersOk(`http://127.0.0.1:${site.port}${readyPath}`))) {
    if (process.ended || Date.now() > giveUpAt) {
      await process.stop();
      const what = process.ended ? 'ended at once' : `was not ready after ${START_MS / 1000} s`;
      throw new Error(`it ${what}. Its last words:\n${process.lastWords()}`);
    }
    await sleep(100);
  }
  return process;
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answersOk(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(2000), headers: { connection: 'close' } });
    await answer.arrayBuffer();
    return answer.status === 200;
  } catch {
    return false;
  }
}

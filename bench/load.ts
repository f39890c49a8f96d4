import { setTimeout as sleep } from 'node:timers/promises';
import { Connection, type Exchange } from './connection.ts';
import type { RequestSource } from './request-source.ts';

/** Who answers, and how to read the CPU time it has used so far. */
export type Measured = { port: number; source: RequestSource; cpuNs: () => number; bodyBytes: number };

/** What a window of time saw. */
export type WindowResult = {
  requests: number;
  cpuNs: number;
  wallMs: number;
  totalMs: number[];
  firstByteMs: number[];
};

/** What a number of requests cost, counted from quiet to quiet. */
export type CountedResult = { requests: number; cpuNs: number; wallMs: number };

const WARM_MS = 200;
// A garbage collector that works off the last window must not be paid by this one.
const QUIET_MS = 60;

/** So many connections ask as fast as they are answered; counted is what ends inside the window. */
export async function askFor(ms: number, connections: number, measured: Measured): Promise<WindowResult> {
  const result: WindowResult = { requests: 0, cpuNs: 0, wallMs: 0, totalMs: [], firstByteMs: [] };
  const window: { phase: 'warm' | 'counting' | 'over' } = { phase: 'warm' };
  await withConnections(measured.port, connections, async (open) => {
    const loops = open.map(async (connection) => {
      while (window.phase !== 'over') {
        const exchange = checked(await connection.send(measured.source.next()), measured.bodyBytes);
        if (window.phase !== 'counting') continue;
        result.requests++;
        result.totalMs.push(exchange.endedAt - exchange.sentAt);
        result.firstByteMs.push(exchange.firstByteAt - exchange.sentAt);
      }
    });
    const clock = async (): Promise<void> => {
      await sleep(WARM_MS);
      const [cpuBefore, began] = [measured.cpuNs(), performance.now()];
      window.phase = 'counting';
      await sleep(ms);
      window.phase = 'over';
      result.cpuNs = measured.cpuNs() - cpuBefore;
      result.wallMs = performance.now() - began;
    };
    const running = Promise.all(loops);
    await Promise.race([running, clock()]);
    await running;
  });
  return result;
}

/** Asks exactly so many times over so many connections: what takes long is never cut by the edge of a window. */
export async function askTimes(requests: number, connections: number, measured: Measured): Promise<CountedResult> {
  return withConnections(measured.port, connections, async (open) => {
    // The first one of each connection pays for connecting, here and behind the candidate.
    await Promise.all(open.map((connection) => connection.send(measured.source.next())));
    await sleep(QUIET_MS);
    const [cpuBefore, began] = [measured.cpuNs(), performance.now()];
    let left = requests;
    await Promise.all(
      open.map(async (connection) => {
        while (left-- > 0) checked(await connection.send(measured.source.next()), measured.bodyBytes);
      }),
    );
    const wallMs = performance.now() - began;
    await sleep(QUIET_MS);
    return { requests, cpuNs: measured.cpuNs() - cpuBefore, wallMs };
  });
}

async function withConnections<Result>(
  port: number,
  count: number,
  use: (open: Connection[]) => Promise<Result>,
): Promise<Result> {
  await sleep(QUIET_MS);
  const open = Array.from({ length: count }, () => new Connection(port));
  try {
    return await use(open);
  } finally {
    for (const connection of open) connection.close();
  }
}

// A refusal is cheap to answer, so one that went unseen would look like a fast candidate.
function checked(exchange: Exchange, bodyBytes: number): Exchange {
  if (exchange.status !== 200) throw new Error(`answered ${exchange.status}: ${exchange.body?.slice(0, 300)}`);
  if (exchange.bodyBytes < bodyBytes) {
    throw new Error(`answered ${exchange.bodyBytes} bytes where ${bodyBytes} were expected`);
  }
  return exchange;
}

import type { Running, Target } from './candidate.ts';
import { checkAnswer } from './check.ts';
import type { HangUps } from './hang-ups.ts';
import { askFor, askTimes, type Measured, type WindowResult } from './load.ts';
import type { Ask } from './request-source.ts';
import type { SlowStreams } from './slow-streams.ts';
import { median, quantile } from './statistics.ts';

/** What one round says of one target. Times are microseconds; not every kind of window is in every round. */
export type Sample = {
  cpuUs: number;
  requestsPerSecond: number;
  /** Which part of the window the candidate was running: below 1 the load was the limit, not the candidate. */
  busy: number;
  oneP50Us: number;
  oneP99Us: number;
  manyP50Us: number;
  manyP99Us: number;
  firstEventP50Us: number;
  eventUs: number;
  burstEventUs: number;
  stream50Us: number;
  bigBodyUs: number;
} & SlowStreams &
  HangUps;

/** What the rounds so far say of one target. */
export type Standing = {
  name: string;
  samples: Partial<Sample>[];
  /** Why it was taken out; what it measured until then is not used. */
  failed: string | undefined;
};

/** A target in the rounds; the mock itself is one, without a process whose time would be of interest. */
export type Entrant = Standing & {
  /** What it managed last, to know how many requests to sign for the next window. */
  perSecond: number;
  target: Target | Running;
  asks: Record<AskName, Measured>;
};

/** What a target is asked for, one after another. */
export const ASKS = {
  completion: { stream: false },
  firstEvent: { stream: true, events: 5, paceMs: 1 },
  paced50: { stream: true, events: 50, paceMs: 1 },
  paced250: { stream: true, events: 250, paceMs: 1 },
  burst50: { stream: true, events: 50 },
  burst250: { stream: true, events: 250 },
  bigBody: { stream: false, bodyBytes: 1_000_000 },
} as const satisfies Record<string, Ask>;

type AskName = keyof typeof ASKS;

/** The connections of a load that keeps a candidate busy. */
export const MANY = 16;
const US_PER_MS = 1000;
/** CPU time is read in nanoseconds and shown in microseconds. */
export const NS_PER_US = 1000;
// Enough to sign in advance for a first window, of which nothing is known yet.
const FIRST_GUESS_PER_SECOND = 5000;

/** Asks a target for everything once and makes sure of each answer. */
export async function enter(name: string, target: Target | Running): Promise<Entrant> {
  const cpuNs = 'process' in target ? () => target.process.cpuNs() : () => 0;
  const asks: Partial<Record<AskName, Measured>> = {};
  for (const [ask, shape] of Object.entries(ASKS) as [AskName, Ask][]) {
    const source = target.source(shape);
    asks[ask] = { port: target.port, source, cpuNs, bodyBytes: await checkAnswer(target.port, source, shape) };
  }
  return {
    name,
    samples: [],
    perSecond: FIRST_GUESS_PER_SECOND,
    failed: undefined,
    target,
    asks: asks as Record<AskName, Measured>,
  };
}

/** One measurement of one entrant. */
export type Window = (entrant: Entrant, seconds: number) => Promise<Partial<Sample>>;

/**
 * One round: each kind of window in turn, and in it each entrant. So what is compared is measured within seconds, and
 * the order is turned on odd rounds because the machine is never the same for the first and the last.
 */
export async function runRound(
  entrants: readonly Entrant[],
  windows: readonly Window[],
  round: number,
  seconds: number,
): Promise<void> {
  const inOrder = round % 2 === 0 ? entrants : entrants.toReversed();
  for (const window of windows) {
    for (const entrant of inOrder) {
      if (entrant.failed !== undefined) continue;
      try {
        const sample = (entrant.samples[round] ??= {});
        Object.assign(sample, await window(entrant, seconds));
      } catch (error) {
        entrant.failed = error instanceof Error ? error.message : String(error);
      }
    }
  }
}

/** What every round measures. */
export const WINDOWS: readonly Window[] = [oneConnection, manyConnections, firstEvent, pacedStreams, burstStreams];

async function oneConnection(entrant: Entrant, seconds: number): Promise<Partial<Sample>> {
  const { totalMs } = await windowOf(entrant, 'completion', 1, seconds / 4);
  return { oneP50Us: median(totalMs) * US_PER_MS, oneP99Us: quantile(totalMs, 0.99) * US_PER_MS };
}

async function manyConnections(entrant: Entrant, seconds: number): Promise<Partial<Sample>> {
  const { requests, cpuNs, wallMs, totalMs } = await windowOf(entrant, 'completion', MANY, seconds);
  entrant.perSecond = (requests / wallMs) * 1000;
  return {
    cpuUs: cpuNs / NS_PER_US / requests,
    requestsPerSecond: entrant.perSecond,
    busy: cpuNs / NS_PER_US / US_PER_MS / wallMs,
    manyP50Us: median(totalMs) * US_PER_MS,
    manyP99Us: quantile(totalMs, 0.99) * US_PER_MS,
  };
}

async function firstEvent(entrant: Entrant, seconds: number): Promise<Partial<Sample>> {
  const { firstByteMs } = await windowOf(entrant, 'firstEvent', 1, seconds / 4);
  return { firstEventP50Us: median(firstByteMs) * US_PER_MS };
}

// At a pace, as models talk, each event is a read and a write of its own.
async function pacedStreams(entrant: Entrant, seconds: number): Promise<Partial<Sample>> {
  const { eventUs, stream50Us } = await slope(entrant, ['paced50', 5 * seconds], ['paced250', seconds]);
  return { eventUs, stream50Us };
}

// In a burst a proxy may read and write many events at once, if it knows how.
async function burstStreams(entrant: Entrant, seconds: number): Promise<Partial<Sample>> {
  const { eventUs } = await slope(entrant, ['burst50', 8 * seconds], ['burst250', 4 * seconds]);
  return { burstEventUs: eventUs };
}

type Streams = [ask: AskName, perConnection: number];

// What a stream costs besides its events is the same for 50 and 250, so the slope between them is the event alone. A
// small error of either is a large one of the slope, hence there and back, as the speed of the machine drifts.
async function slope(
  entrant: Entrant,
  short: Streams,
  long: Streams,
): Promise<{ eventUs: number; stream50Us: number }> {
  const costs: number[] = [];
  for (const streams of [short, long, long, short]) costs.push(await costOfStream(entrant, streams));
  const [shortThere = NaN, longThere = NaN, longBack = NaN, shortBack = NaN] = costs;
  const stream50Us = (shortThere + shortBack) / 2;
  return { eventUs: ((longThere + longBack) / 2 - stream50Us) / 200, stream50Us };
}

async function windowOf(entrant: Entrant, ask: AskName, connections: number, seconds: number): Promise<WindowResult> {
  entrant.asks[ask].source.prepare(Math.ceil(entrant.perSecond * 1.3 * (seconds + 0.3)));
  return askFor(seconds * 1000, connections, entrant.asks[ask]);
}

async function costOfStream(entrant: Entrant, [ask, perConnection]: Streams): Promise<number> {
  const count = Math.max(1, Math.round(perConnection)) * MANY;
  entrant.asks[ask].source.prepare(count + MANY);
  const { cpuNs } = await askTimes(count, MANY, entrant.asks[ask]);
  return cpuNs / NS_PER_US / count;
}

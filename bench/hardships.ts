import type { Running } from './candidate.ts';
import { hangUpOn } from './hang-ups.ts';
import { askTimes } from './load.ts';
import { ASKS, type Entrant, MANY, NS_PER_US, type Sample, type Window } from './rounds.ts';
import { holdSlowStreams } from './slow-streams.ts';

// What is measured after the rounds, because it leaves other memory behind, and perhaps a candidate that is gone.

const FEW = 4;
const WARM_COMPLETIONS = 1000;
const WARM_STREAMS = 100;

/** Requests of a megabyte. They are signed as they are sent: many held ready would be memory for nothing. */
export async function bigBodies({ asks }: Entrant, seconds: number): Promise<Partial<Sample>> {
  const count = Math.max(1, Math.round(20 * seconds)) * FEW;
  const { cpuNs } = await askTimes(count, FEW, asks.bigBody);
  return { bigBodyUs: cpuNs / NS_PER_US / count };
}

/**
 * The memory that many slow streams take. It is that of a process started for it: after the rounds a heap has so much
 * room that hundreds of streams add nothing, and before its first request all code is still to be compiled.
 */
export function slowStreams(startFresh: (name: string) => Promise<Running>): Window {
  return async ({ name, asks }) => {
    const fresh = await startFresh(name);
    const { port, source, process } = fresh;
    try {
      const warm = async (ask: 'completion' | 'burst50', count: number): Promise<void> => {
        const { bodyBytes } = asks[ask];
        await askTimes(count, MANY, { port, source: source(ASKS[ask]), cpuNs: () => 0, bodyBytes });
      };
      await warm('completion', WARM_COMPLETIONS);
      await warm('burst50', WARM_STREAMS);
      return await holdSlowStreams({ port, source, residentBytes: () => process.residentBytes() });
    } finally {
      await process.stop();
    }
  };
}

/** What clients that leave early do to a candidate; the mock says how many streams it is still sending. */
export function hangUps(openStreams: () => Promise<number>): Window {
  return async ({ target, asks }) => {
    // The mock itself is not put to the test.
    if (!('process' in target)) return {};
    const { port, source, process } = target;
    const tested = { port, source, answerBytes: asks.completion.bodyBytes, hasEnded: () => process.ended, openStreams };
    return hangUpOn(tested, Math.random);
  };
}

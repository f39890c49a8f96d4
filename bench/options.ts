import { parseArgs } from 'node:util';
import { CANDIDATE_NAMES, type CandidateName } from './candidate.ts';

/** What one run of the benchmark was asked to do. */
export type Options = {
  rounds: number;
  seconds: number;
  only: readonly CandidateName[];
  json: boolean;
  gate: boolean;
};

const USAGE = `node bench/bench.ts [options]
  --rounds N     rounds, each running every candidate once (5)
  --seconds N    length of the throughput window of a candidate in a round (2, at most 10)
  --only NAME    measure only this one; may be repeated (${CANDIDATE_NAMES.join(', ')})
  --json         print one JSON object instead of tables
  --gate         exit with 1 when a goal misses its gate`;

/** Reads the command line, or says in words what is wrong with it. */
export function readOptions(args: string[]): Options | { help: string } | { wrong: string } {
  try {
    const { values } = parseArgs({
      args,
      options: {
        rounds: { type: 'string', default: '5' },
        seconds: { type: 'string', default: '2' },
        only: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean', default: false },
        gate: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) return { help: USAGE };
    const only = values.only.flatMap((names) => names.split(',')).map(readName);
    // A signature lives for seconds and is made before the window opens, so a window cannot be long.
    const { rounds, seconds } = { rounds: Number(values.rounds), seconds: Number(values.seconds) };
    if (!Number.isInteger(rounds) || rounds < 1 || rounds > 100) return { wrong: '--rounds takes 1 to 100' };
    if (!(seconds >= 0.1 && seconds <= 10)) return { wrong: '--seconds takes 0.1 to 10' };
    return { rounds, seconds, only, json: values.json, gate: values.gate };
  } catch (error) {
    return { wrong: error instanceof Error ? error.message : String(error) };
  }
}

function readName(text: string): CandidateName {
  const name = CANDIDATE_NAMES.find((known) => known === text);
  if (name === undefined) throw new Error(`--only ${text}: one of ${CANDIDATE_NAMES.join(', ')}`);
  return name;
}

import type { CandidateName } from './candidate.ts';
import type { Standing, Sample } from './rounds.ts';
import { spreadOf, type Spread } from './statistics.ts';

type Metric = keyof Sample;

/** A figure that is compared, or what a hop adds to it beside asking the mock directly. */
type Figure = Metric | `added ${Metric}`;

/** One promise, about a figure or about the ratio of two: the gate holds on a noisy machine, the target is what we claim. */
export type Goal = {
  id: string;
  says: string;
  figure: Figure;
  of: CandidateName;
  /** Where it is missing the figure itself is held against the bounds, whatever the others do. */
  to?: CandidateName;
  wanted: 'at least' | 'at most';
  gate: number;
  target: number;
};

/** A goal beside what was measured: nothing where one of its candidates was not. */
export type Outcome = Goal & { measured: Spread | undefined; meetsGate: boolean; meetsTarget: boolean };

/** What the broker promises; the rest of the list is measured with the daemon and the translators. */
export const GOALS: readonly Goal[] = [
  {
    id: 'G1',
    says: 'CPU, Portkey : broker',
    figure: 'cpuUs',
    of: 'portkey',
    to: 'broker',
    wanted: 'at least',
    gate: 4,
    target: 6,
  },
  {
    id: 'G2',
    says: 'CPU, broker : raw Node proxy',
    figure: 'cpuUs',
    of: 'broker',
    to: 'raw',
    wanted: 'at most',
    gate: 1.25,
    target: 1,
  },
  {
    id: 'G3',
    says: 'CPU, broker : nginx',
    figure: 'cpuUs',
    of: 'broker',
    to: 'nginx',
    wanted: 'at most',
    gate: 6.5,
    target: 5,
  },
  {
    id: 'G8',
    says: 'added p50, broker : Portkey',
    figure: 'added oneP50Us',
    of: 'broker',
    to: 'portkey',
    wanted: 'at most',
    gate: 0.5,
    target: 0.33,
  },
  {
    id: 'G10',
    says: 'CPU of an event, broker : nginx',
    figure: 'eventUs',
    of: 'broker',
    to: 'nginx',
    wanted: 'at most',
    gate: 3,
    target: 2.2,
  },
  {
    id: 'G10',
    says: 'CPU of an event, broker : raw',
    figure: 'eventUs',
    of: 'broker',
    to: 'raw',
    wanted: 'at most',
    gate: 1.2,
    target: 1,
  },
  {
    id: 'G12',
    says: 'CPU of a stream of 50, Portkey : broker',
    figure: 'stream50Us',
    of: 'portkey',
    to: 'broker',
    wanted: 'at least',
    gate: 2.3,
    target: 3,
  },
  {
    id: 'G13',
    says: 'RSS with 500 slow streams, broker : Portkey',
    figure: 'slowMb',
    of: 'broker',
    to: 'portkey',
    wanted: 'at most',
    gate: 0.6,
    target: 0.45,
  },
  {
    id: 'G13',
    says: 'KB of a slow stream, broker',
    figure: 'slowStreamKb',
    of: 'broker',
    wanted: 'at most',
    gate: 80,
    target: 56,
  },
  {
    id: 'G20',
    says: 'CPU of a 1 MB body, Portkey : broker',
    figure: 'bigBodyUs',
    of: 'portkey',
    to: 'broker',
    wanted: 'at least',
    gate: 3,
    target: 5,
  },
  {
    id: 'G20',
    says: 'CPU of a 1 MB body, broker : raw',
    figure: 'bigBodyUs',
    of: 'broker',
    to: 'raw',
    wanted: 'at most',
    gate: 4.5,
    target: 2.5,
  },
  {
    id: 'G22',
    says: 'crashes when clients hang up, broker',
    figure: 'crashes',
    of: 'broker',
    wanted: 'at most',
    gate: 0,
    target: 0,
  },
  {
    id: 'G22',
    says: 'wedged connections after it, broker',
    figure: 'wedged',
    of: 'broker',
    wanted: 'at most',
    gate: 0,
    target: 0,
  },
];

/** Holds the goals against what the rounds said. */
export function judge(entrants: readonly Standing[], direct: Standing): Outcome[] {
  return GOALS.map((goal) => {
    const measured = measure(goal, entrants, direct);
    const meets = (bound: number): boolean => {
      if (measured === undefined) return false;
      return goal.wanted === 'at least' ? measured.median >= bound : measured.median <= bound;
    };
    return { ...goal, measured, meetsGate: meets(goal.gate), meetsTarget: meets(goal.target) };
  });
}

function measure({ figure, of, to }: Goal, entrants: readonly Standing[], direct: Standing): Spread | undefined {
  const whose = find(entrants, of);
  if (to !== undefined) return ratioOf(whose, find(entrants, to), figure, direct);
  return whose === undefined ? undefined : spreadOf(figures(whose, figure, direct));
}

/** The figure of each round; NaN where it is missing. */
export function figures(entrant: Standing, figure: Figure, direct: Standing): number[] {
  if (!figure.startsWith('added ')) return entrant.samples.map((sample) => sample[figure as Metric] ?? NaN);
  const metric = figure.slice('added '.length) as Metric;
  return entrant.samples.map((sample, round) => (sample[metric] ?? NaN) - (direct.samples[round]?.[metric] ?? NaN));
}

/** The ratio of two entrants: each round by itself first, because the machine is faster in one round than in another. */
export function ratioOf(
  of: Standing | undefined,
  to: Standing | undefined,
  figure: Figure,
  direct: Standing,
): Spread | undefined {
  if (of === undefined || to === undefined) return undefined;
  const below = figures(to, figure, direct);
  return spreadOf(figures(of, figure, direct).map((value, round) => value / (below[round] ?? NaN)));
}

function find(entrants: readonly Standing[], name: CandidateName): Standing | undefined {
  return entrants.find((entrant) => entrant.name === name && entrant.failed === undefined);
}

import type { CandidateName } from './candidate.ts';
import type { Standing, Sample } from './rounds.ts';
import { spreadOf, type Spread } from './statistics.ts';

type Metric = keyof Sample;

/** A figure that is compared, or what a hop adds to it beside asking the mock directly. */
type Figure = Metric | `added ${Metric}`;

/** One promise about a ratio: the gate holds on a noisy machine, the target is what we claim. */
export type Goal = {
  id: string;
  says: string;
  figure: Figure;
  of: CandidateName;
  to: CandidateName;
  wanted: 'at least' | 'at most';
  gate: number;
  target: number;
};

/** A goal beside what was measured; no ratio means that one of the two was not measured. */
export type Outcome = Goal & { ratio: Spread | undefined; meetsGate: boolean; meetsTarget: boolean };

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
];

/** Holds the goals against what the rounds said. */
export function judge(entrants: readonly Standing[], direct: Standing): Outcome[] {
  return GOALS.map((goal) => {
    const ratio = ratioOf(find(entrants, goal.of), find(entrants, goal.to), goal.figure, direct);
    const meets = (bound: number): boolean => {
      if (ratio === undefined) return false;
      return goal.wanted === 'at least' ? ratio.median >= bound : ratio.median <= bound;
    };
    return { ...goal, ratio, meetsGate: meets(goal.gate), meetsTarget: meets(goal.target) };
  });
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

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { WithAddress } from './edge/client-address.ts';
import type { WithAuthority } from './edge/host.ts';
import type { WithRequestId } from './edge/request-id.ts';
import type { WithTarget } from './edge/target.ts';
import type { WithCaller } from './auth/caller.ts';
import type { WithProduct } from './policy/products.ts';
import type { WithDecision } from './policy/authorize.ts';
import type { WithAnswer } from './api/forward.ts';

/** What every request brings along before any stage has looked at it. */
export type Arrival = {
  request: IncomingMessage;
  response: ServerResponse;
  /** When it arrived, by a clock that only ever goes forward. */
  arrivedMs: number;
  /** Headers that the answer carries whatever it turns out to be: name, value, name, value. */
  answerHeaders: string[];
  params: Readonly<Record<string, string>>;
};

/** A request on its way, with the pieces that the stages before the routes have added. */
export type Call = Arrival & WithTarget & WithRequestId & WithAuthority & WithAddress;

/** Everything a finished request may have gathered; the access log and the error answer take what is there. */
export type Finished = Arrival & Partial<Call & WithCaller & WithProduct & WithDecision & WithAnswer>;

/**
 * A stage does one thing: it takes what earlier stages left, and returns the piece that it adds, or throws.
 * It declares both by its own types and knows of no other stage.
 */
export type Stage<Needs, Adds = unknown> = (call: Needs) => Adds | Promise<Adds>;

type AnyStage = Stage<never>;
type Pieces<Stages extends readonly AnyStage[], Has> = Stages extends readonly [
  (call: infer Needs) => infer Adds,
  ...infer Rest extends readonly AnyStage[],
]
  ? readonly [
      Has extends Needs ? Stages[0] : { 'this stage needs a piece that no stage before it adds': Needs },
      ...Pieces<Rest, Has & (Awaited<Adds> extends object ? Awaited<Adds> : unknown)>,
    ]
  : readonly [];

/** Stages in an order that works: one that stands before what it needs does not compile. */
export type InOrder<Stages extends readonly AnyStage[], Has = Call> = Stages & Pieces<Stages, Has>;

/** The stages that every request walks, held to the same rule. */
export const inOrder = <const Stages extends readonly AnyStage[]>(stages: InOrder<Stages, Arrival>): Stages => stages;

/** Walks the stages one after the other; each piece is laid onto the call before the next stage sees it. */
export async function walk(stages: readonly AnyStage[], call: Arrival): Promise<void> {
  for (const stage of stages) {
    const added: unknown = (stage as (call: Arrival) => unknown)(call);
    const piece = (added instanceof Promise ? await added : added) as Record<string, unknown> | undefined;
    for (const name in piece) (call as Record<string, unknown>)[name] = piece[name];
  }
}

import { decide, type Decision, type Wish } from './rules.ts';
import type { WithProduct } from './products.ts';

/** The rule that decided, for the log. */
export type WithDecision = { decision: Decision };

/** Lets the request pass if the product's rules allow what it wishes for. */
export function authorize({ product, wish }: WithProduct & { wish: Wish }): WithDecision {
  return { decision: decide(product, wish) };
}

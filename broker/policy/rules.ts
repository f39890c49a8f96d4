import { ApiError } from '@sallyport/protocol/errors.ts';

/** What a product allows. */
export type Rules = {
  name: string;
  models: readonly string[];
  maxTokens?: number | undefined;
  temperature?: readonly [from: number, to: number] | undefined;
};

/** What a request wishes for, whatever dialect it was said in. */
export type Wish = {
  model: string;
  /** The ceiling it asks for, and the field that it named it in. */
  maxTokens?: { field: string; tokens: number } | undefined;
  temperature?: number | undefined;
};

/** The rule that let the request pass, in the words of the configuration; it stands in the access log. */
export type Decision = { rule: string };

/** Decides whether the product allows the wish; throws the refusal, which says what may be asked for and which rule it was. */
export function decide(rules: Rules, wish: Wish): Decision {
  const product = rules.name;
  const index = rules.models.findIndex((pattern) => matches(pattern, wish.model));
  if (index === -1) {
    throw new ApiError('model_not_allowed', {
      param: 'model',
      facts: { model: wish.model, product },
      rule: `products.${product}.models`,
    });
  }
  const { maxTokens, temperature } = wish;
  if (maxTokens !== undefined && rules.maxTokens !== undefined && maxTokens.tokens > rules.maxTokens) {
    const { field, tokens } = maxTokens;
    throw new ApiError('max_tokens_exceeded', {
      param: field,
      facts: { field, asked: tokens, limit: rules.maxTokens, product },
      rule: `products.${product}.max_tokens`,
    });
  }
  if (temperature !== undefined && rules.temperature !== undefined) {
    const [from, to] = rules.temperature;
    if (temperature < from || temperature > to) {
      throw new ApiError('temperature_out_of_range', {
        param: 'temperature',
        facts: { asked: temperature, from, to, product },
        rule: `products.${product}.temperature`,
      });
    }
  }
  return { rule: `products.${product}.models[${index}]` };
}

/** Whether the product allows this model at all. */
export function allowsModel(rules: Rules, model: string): boolean {
  return rules.models.some((pattern) => matches(pattern, model));
}

// `*` stands for any run of characters. Matched piece by piece and not by a regular expression made of configuration:
// a pattern such as *a*a*a*b must not cost more than its length.
function matches(pattern: string, model: string): boolean {
  const [first, ...rest] = pattern.split('*') as [string, ...string[]];
  if (rest.length === 0) return pattern === model;
  if (!model.startsWith(first)) return false;
  const last = rest.pop()!;
  let at = first.length;
  for (const piece of rest) {
    const found = model.indexOf(piece, at);
    if (found === -1) return false;
    at = found + piece.length;
  }
  return model.length - last.length >= at && model.endsWith(last);
}

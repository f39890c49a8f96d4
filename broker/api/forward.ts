import type { ServerResponse } from 'node:http';
import { ApiError } from '@sallyport/protocol/errors.ts';
import type { JsonOutline } from '../dialects/json-outline.ts';
import type { Operation, Provider } from '../providers/provider.ts';
import { attempt } from '../relay/attempt.ts';
import { pickProvider } from '../relay/pick.ts';
import type { Relayed } from '../relay/pump.ts';

/** Who answered, and how it went; the access log tells it. */
export type WithAnswer = { provider: string; relayed: Relayed };

type Forwarded = {
  response: ServerResponse;
  answerHeaders: string[];
  arrivedMs: number;
  requestId: string;
  body: Buffer;
  json: JsonOutline;
  product: { name: string; maxTokens?: number | undefined };
  wish: { model: string; maxTokens?: object | undefined; isStream?: boolean };
  // Not read here, but asked for: a route that leaves out the policy or the limits does not compile.
  decision: object;
  rate: object;
};

type Settings = { providers: readonly Provider[]; elapsedMs: () => number };

/** Hands the request to the provider of its model and the answer back, in the dialect in which both already are. */
export function forward(operation: Operation, { providers, elapsedMs }: Settings) {
  return async (call: Forwarded): Promise<WithAnswer> => {
    const { wish, product, response, answerHeaders, requestId } = call;
    const provider = pickProvider(providers, wish.model);
    if (provider === undefined) {
      throw new ApiError('model_unserved', { param: 'model', facts: { model: wish.model, product: product.name } });
    }
    const relayed = await attempt({
      provider,
      operation,
      body: operation === 'chat' ? withCeiling(call, provider) : call.body,
      isStream: wish.isStream ?? false,
      response,
      answerHeaders,
      requestId,
      overheadMs: elapsedMs() - call.arrivedMs,
    });
    return { provider: provider.name, relayed };
  };
}

// A ceiling that leaving a field out would lift is no ceiling. Every other byte stays as the caller wrote it.
function withCeiling({ body, json, product, wish }: Forwarded, provider: Provider): Buffer {
  if (product.maxTokens === undefined || wish.maxTokens !== undefined) return body;
  return json.with({ [provider.maxTokensField]: product.maxTokens });
}

import type { ServerResponse } from 'node:http';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import type { JsonOutline } from '../dialects/json-outline.ts';
import type { Operation, Provider } from '../providers/provider.ts';
import { relay, type Relayed, type RelaySettings } from '../relay/attempt.ts';
import { LARGEST_KEPT, type IdempotencyMemory } from '../relay/idempotency.ts';
import { pickProviders } from '../relay/pick.ts';
import type { Kept } from '../relay/pump.ts';

/** How the answer went; nothing when it was one that had been given before. The access log tells it. */
export type WithAnswer = { relayed?: Relayed };

type Forwarded = {
  response: ServerResponse;
  answerHeaders: readonly string[];
  arrivedMs: number;
  requestId: string;
  fields: ReadonlyMap<string, string>;
  body: Buffer;
  json: JsonOutline;
  caller: { kind: string; name: string; keyid: string };
  product: { name: string; maxTokens?: number | undefined };
  wish: { model: string; maxTokens?: object | undefined; isStream?: boolean };
  // Not read here, but asked for: a route that leaves out the policy or the limits does not compile.
  decision: object;
  rate: object;
};

type Settings = { providers: readonly Provider[]; relay: RelaySettings; idempotency: IdempotencyMemory };

/** Hands the request to the provider of its model and the answer back, in the dialect in which both already are. */
export function forward(operation: Operation, { providers, relay: settings, idempotency }: Settings) {
  return async (call: Forwarded): Promise<WithAnswer> => {
    const { wish, product, caller, body, requestId } = call;
    const able = pickProviders(providers, wish.model);
    if (able.length === 0) {
      throw new ApiError('model_unserved', { param: 'model', facts: { model: wish.model, product: product.name } });
    }
    const key = call.fields.get(HEADER.idempotencyKey);
    const owner = `${product.name} ${caller.kind} ${caller.name}`;
    const claim = key === undefined ? undefined : idempotency.claim({ owner, key, operation, body });
    if (claim?.answered !== undefined) return answerAgain(call, claim.answered);
    let kept: Kept | undefined;
    try {
      const relayed = await relay(
        {
          response: call.response,
          answerHeaders: call.answerHeaders,
          arrivedMs: call.arrivedMs,
          requestId,
          caller,
          providers: able,
          operation,
          bodyFor: (provider) => (operation === 'chat' ? withCeiling(call, provider) : body),
          isStream: wish.isStream ?? false,
          idempotencyKey: claim?.upstreamKey ?? requestId,
          keepBytes: claim === undefined ? 0 : LARGEST_KEPT,
        },
        settings,
      );
      kept = relayed.kept;
      return { relayed };
    } finally {
      if (kept === undefined) claim?.forget();
      else claim?.keep(kept);
    }
  };
}

// A ceiling that leaving a field out would lift is no ceiling. Every other byte stays as the caller wrote it.
function withCeiling({ body, json, product, wish }: Forwarded, provider: Provider): Buffer {
  if (product.maxTokens === undefined || wish.maxTokens !== undefined) return body;
  return json.with({ [provider.maxTokensField]: product.maxTokens });
}

function answerAgain({ response, answerHeaders }: Forwarded, { status, headers, body }: Kept): WithAnswer {
  response.writeHead(status, [...answerHeaders, HEADER.idempotentReplayed, 'true', ...headers]);
  response.end(body);
  return {};
}

import { ApiError } from '@sallyport/protocol/errors.ts';
import type { JsonOutline } from '../json-outline.ts';

/** What of a chat request decides anything here; everything else passes through as the caller wrote it. */
export type ChatRequest = {
  model: string;
  maxTokens: { field: string; tokens: number } | undefined;
  temperature: number | undefined;
  isStream: boolean;
};

// The gate has read the list; that it is one shows in its first byte, and the rest is the provider's to understand.
const OPENS_LIST = 0x5b;

/** Reads a Chat Completions request: https://platform.openai.com/docs/api-reference/chat/create */
export function readChatRequest(json: JsonOutline): ChatRequest {
  if (json.raw('messages')?.[0] !== OPENS_LIST) throw invalid('messages', 'must be a list of messages');
  return {
    model: readModel(json),
    maxTokens: readMaxTokens(json),
    temperature: json.number('temperature'),
    isStream: json.boolean('stream') ?? false,
  };
}

/** The model that a request of any OpenAI shape names. */
export function readModel(json: JsonOutline): string {
  const model = json.string('model');
  if (model === undefined || model === '') throw invalid('model', 'must name a model; GET /v1/models lists them');
  return model;
}

// `max_tokens` is the older name and `max_completion_tokens` the newer; the larger of the two is what might be spent.
function readMaxTokens(json: JsonOutline): ChatRequest['maxTokens'] {
  let largest: ChatRequest['maxTokens'];
  for (const field of ['max_tokens', 'max_completion_tokens']) {
    const tokens = json.number(field);
    if (tokens === undefined) continue;
    if (!Number.isInteger(tokens) || tokens < 1) throw invalid(field, 'must be a whole number of at least 1');
    if (largest === undefined || tokens > largest.tokens) largest = { field, tokens };
  }
  return largest;
}

function invalid(field: string, why: string): ApiError {
  return new ApiError('field_invalid', { param: field, facts: { field, why } });
}

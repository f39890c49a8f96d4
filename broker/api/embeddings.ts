import { ApiError } from '@sallyport/protocol/errors.ts';
import type { JsonOutline } from '../dialects/json-outline.ts';
import { readModel } from '../dialects/openai-chat/request.ts';

/** What an embeddings request wishes for: a model, and something to embed. */
export function embeddingsWish({ json }: { json: JsonOutline }): { wish: { model: string } } {
  if (!json.has('input')) {
    throw new ApiError('field_invalid', { param: 'input', facts: { field: 'input', why: 'must hold what to embed' } });
  }
  return { wish: { model: readModel(json) } };
}

import type { JsonOutline } from '../dialects/json-outline.ts';
import { readChatRequest, type ChatRequest } from '../dialects/openai-chat/request.ts';

/** What a chat wishes for, read before anything decides. */
export function chatWish({ json }: { json: JsonOutline }): { wish: ChatRequest } {
  return { wish: readChatRequest(json) };
}

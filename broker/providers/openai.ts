import type { Config } from '../config/config.ts';
import { openaiCompatible } from './openai-compatible.ts';
import type { Provider } from './provider.ts';

type Settings = Extract<Config['providers'][number], { baseUrl: string }>;

/** OpenAI itself: the reference, except that its reasoning models refuse the older name of the length limit. */
export function openai(settings: Settings): Provider {
  return { ...openaiCompatible(settings), maxTokensField: 'max_completion_tokens' };
}

import type { Config } from '../config/config.ts';
import { providerAgent } from '../outbound/agent.ts';
import type { Provider } from './provider.ts';

type Settings = Extract<Config['providers'][number], { baseUrl: string }>;

/** A vendor, or a server of one's own, that speaks as OpenAI does. */
export function openaiCompatible(settings: Settings): Provider {
  const { name, models, apiKey, allowPrivate, timeouts } = settings;
  const { origin, pathname } = new URL(settings.baseUrl);
  const root = pathname.replace(/\/$/, '');
  return {
    name,
    models,
    dispatcher: providerAgent({ allowPrivate, connectTimeoutMs: timeouts.connectMs }),
    origin,
    paths: { chat: `${root}/chat/completions`, embeddings: `${root}/embeddings` },
    credential: () => (apiKey === undefined ? [] : ['authorization', `Bearer ${apiKey.reveal()}`]),
    maxTokensField: 'max_tokens',
    timeouts,
  };
}

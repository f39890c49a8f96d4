import type { Config } from '../config/config.ts';
import { echo } from './echo.ts';
import { openaiCompatible } from './openai-compatible.ts';
import { openai } from './openai.ts';
import type { Provider } from './provider.ts';

/** Every configured provider, in the order of the configuration: where two serve one model, the first is asked. */
export function buildProviders(settings: Config['providers'], now: () => number): Provider[] {
  return settings.map((provider) => {
    switch (provider.kind) {
      case 'openai':
        return openai(provider);
      case 'openai-compatible':
        return openaiCompatible(provider);
      case 'echo':
        return echo(provider, now);
    }
  });
}

import type { Provider } from '../providers/provider.ts';

/** The provider that serves this model: one that lists it, else the first that takes any name. */
export function pickProvider(providers: readonly Provider[], model: string): Provider | undefined {
  return (
    providers.find(({ models }) => models?.includes(model) === true) ??
    providers.find(({ models }) => models === undefined)
  );
}

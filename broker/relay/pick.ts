import type { Provider } from '../providers/provider.ts';

/** The providers that serve this model, in the order they are asked: those that list it before those that take any name. */
export function pickProviders(providers: readonly Provider[], model: string): readonly Provider[] {
  return [
    ...providers.filter(({ models }) => models?.includes(model) === true),
    ...providers.filter(({ models }) => models === undefined),
  ];
}

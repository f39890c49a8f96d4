import assert from 'node:assert/strict';
import { Agent } from 'undici';
import type { Provider } from '../providers/provider.ts';
import { pickProvider } from './pick.ts';

function provider(name: string, models: readonly string[] | undefined): Provider {
  return {
    name,
    models,
    dispatcher: new Agent(),
    origin: 'http://vendor.invalid',
    paths: { chat: '/c', embeddings: '/e' },
    credential: () => [],
    maxTokensField: 'max_tokens',
    timeouts: { headersMs: 1, idleMs: 1, totalMs: 1 },
  };
}

const any = provider('any', undefined);
const other = provider('other', undefined);
const first = provider('first', ['a', 'b']);
const second = provider('second', ['b', 'c']);

const TABLE: [providers: Provider[], model: string, picked: string | undefined][] = [
  [[first, second], 'a', 'first'],
  [[first, second], 'b', 'first'],
  [[second, first], 'b', 'second'],
  [[first, second], 'c', 'second'],
  [[first, second], 'd', undefined],
  [[first, second], 'A', undefined],
  [[first, second], '', undefined],
  [[any, first], 'a', 'first'],
  [[any, first], 'd', 'any'],
  [[any, other], 'd', 'any'],
  [[], 'a', undefined],
];

describe('the provider of a model', () => {
  for (const [providers, model, picked] of TABLE) {
    it(`is ${picked ?? 'nobody'} for "${model}" of ${providers.map(({ name }) => name).join(', ') || 'none'}`, () => {
      assert.equal(pickProvider(providers, model)?.name, picked);
    });
  }
});

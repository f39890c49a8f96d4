import assert from 'node:assert/strict';
import { Agent } from 'undici';
import type { Provider } from '../providers/provider.ts';
import { pickProviders } from './pick.ts';

function provider(name: string, models: readonly string[] | undefined): Provider {
  return {
    name,
    models,
    dispatcher: new Agent(),
    origin: 'http://vendor.invalid',
    paths: { chat: '/c', embeddings: '/e' },
    credential: () => [],
    maxTokensField: 'max_tokens',
    timeouts: { headersMs: 1, firstByteMs: 1, idleMs: 1, totalMs: 1 },
  };
}

const any = provider('any', undefined);
const other = provider('other', undefined);
const first = provider('first', ['a', 'b']);
const second = provider('second', ['b', 'c']);

const TABLE: [providers: Provider[], model: string, picked: string[]][] = [
  [[first, second], 'a', ['first']],
  [[first, second], 'b', ['first', 'second']],
  [[second, first], 'b', ['second', 'first']],
  [[first, second], 'c', ['second']],
  [[first, second], 'd', []],
  [[first, second], 'A', []],
  [[first, second], '', []],
  [[any, first], 'a', ['first', 'any']],
  [[any, first], 'd', ['any']],
  [[any, other], 'd', ['any', 'other']],
  [[], 'a', []],
];

describe('the providers of a model', () => {
  for (const [providers, model, picked] of TABLE) {
    it(`are ${picked.join(', ') || 'nobody'} for "${model}" of ${providers.map(({ name }) => name).join(', ') || 'none'}`, () => {
      const names = pickProviders(providers, model).map(({ name }) => name);
      assert.deepEqual(names, picked);
    });
  }
});

import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { Secret } from '@sallyport/protocol/secret.ts';
import type { Config } from '../config/config.ts';
import { buildProviders } from './providers.ts';

const timeouts = { connectMs: 1000, headersMs: 2000, firstByteMs: 2000, idleMs: 3000, totalMs: 4000 };
const vendor = { allowPrivate: false, timeouts, apiKey: new Secret('sk-vendor') };

const settings: Config['providers'] = [
  { ...vendor, name: 'openai', kind: 'openai', baseUrl: 'https://api.openai.com/v1', models: ['gpt-4o'] },
  { name: 'local', kind: 'openai-compatible', baseUrl: 'http://127.0.0.1:11434/v1', allowPrivate: true, timeouts },
  { ...vendor, name: 'rooted', kind: 'openai-compatible', baseUrl: 'https://llm.example' },
  { ...vendor, name: 'deep', kind: 'openai-compatible', baseUrl: 'https://llm.example:8443/a/b/v2' },
  { name: 'echo', kind: 'echo', allowPrivate: false, timeouts, models: ['echo'] },
];

const EXPECTED: [name: string, origin: string, chat: string, credential: string[], field: string][] = [
  [
    'openai',
    'https://api.openai.com',
    '/v1/chat/completions',
    ['authorization', 'Bearer sk-vendor'],
    'max_completion_tokens',
  ],
  ['local', 'http://127.0.0.1:11434', '/v1/chat/completions', [], 'max_tokens'],
  ['rooted', 'https://llm.example', '/chat/completions', ['authorization', 'Bearer sk-vendor'], 'max_tokens'],
  ['deep', 'https://llm.example:8443', '/a/b/v2/chat/completions', ['authorization', 'Bearer sk-vendor'], 'max_tokens'],
  ['echo', 'http://echo.invalid', '/chat/completions', [], 'max_tokens'],
];

describe('the providers', () => {
  const built = buildProviders(settings, () => 0);
  after(() => Promise.all(built.map(({ dispatcher }) => dispatcher.destroy())));

  it('stand in the order of the configuration', () => {
    assert.deepEqual(
      built.map(({ name }) => name),
      settings.map(({ name }) => name),
    );
  });

  for (const [index, [name, origin, chat, credential, field]] of EXPECTED.entries()) {
    it(`make of ${name} a place, a path and a credential`, () => {
      const provider = built[index]!;
      assert.equal(provider.name, name);
      assert.equal(provider.origin, origin);
      assert.equal(provider.paths.chat, chat);
      assert.equal(provider.paths.embeddings, chat.replace('chat/completions', 'embeddings'));
      assert.deepEqual(provider.credential(), credential);
      assert.equal(provider.maxTokensField, field);
      assert.deepEqual(provider.models, settings[index]!.models);
    });
  }

  it('take over the time-outs of a vendor, and give the echo an hour', () => {
    assert.deepEqual(built[0]!.timeouts, timeouts);
    assert.equal(built[4]!.timeouts.totalMs, 3_600_000);
  });

  it('do not show a key when they are printed', () => {
    assert.doesNotMatch(
      `${inspect(built, { depth: 6, showHidden: true })}${JSON.stringify(built[0]!.paths)}`,
      /sk-vendor/,
    );
  });
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Agent } from 'undici';
import type { Rules } from '../policy/rules.ts';
import type { Provider } from '../providers/provider.ts';
import { listModels } from './models.ts';

function provider(name: string, models?: readonly string[]): Provider {
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

async function list(providers: Provider[], products: Rules[]): Promise<Record<string, string>> {
  const server = createServer((_, response) => listModels(providers)({ response, answerHeaders: [], products }));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const request = get({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, agent: false });
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    assert.equal(answer.statusCode, 200);
    const { object, data } = JSON.parse(Buffer.concat(await answer.toArray()).toString());
    assert.equal(object, 'list');
    for (const model of data) assert.deepEqual([model.object, model.created], ['model', 0]);
    const pairs = data.map(({ id, owned_by }: { id: string; owned_by: string }) => [id, owned_by]);
    assert.deepEqual(pairs, pairs.toSorted());
    return Object.fromEntries(pairs);
  } finally {
    server.close();
  }
}

const openai = provider('openai', ['gpt-4o', 'gpt-4o-mini', 'o3']);
const local = provider('local', ['llama', 'gpt-4o']);
const any = provider('any');

describe('the list of models', () => {
  it('holds what the products allow and a provider serves, and names who answers', async () => {
    const products = [{ name: 'p', models: ['gpt-*', 'llama'] }];
    assert.deepEqual(await list([openai, local], products), {
      'gpt-4o': 'openai',
      'gpt-4o-mini': 'openai',
      llama: 'local',
    });
    assert.deepEqual(await list([local, openai], products), {
      'gpt-4o': 'local',
      'gpt-4o-mini': 'openai',
      llama: 'local',
    });
  });

  it('holds nothing of other products', async () => {
    assert.deepEqual(await list([openai], [{ name: 'p', models: ['o3'] }]), { o3: 'openai' });
    assert.deepEqual(await list([openai], []), {});
  });

  it('holds each model once, whatever number of products allow it', async () => {
    const products = ['a', 'b'].map((name) => ({ name, models: ['o3', '*3'] }));
    assert.deepEqual(await list([openai], products), { o3: 'openai' });
  });

  it('holds what a product spells out where a provider takes any name, and no pattern', async () => {
    const products = [{ name: 'p', models: ['mistral', 'mix*', 'o3'] }];
    assert.deepEqual(await list([any, openai], products), { mistral: 'any', o3: 'openai' });
  });

  it('leaves out what nobody serves', async () => {
    assert.deepEqual(await list([openai], [{ name: 'p', models: ['mistral', '*'] }]), {
      'gpt-4o': 'openai',
      'gpt-4o-mini': 'openai',
      o3: 'openai',
    });
  });
});

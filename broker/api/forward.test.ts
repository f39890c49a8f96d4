import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readOutline } from '../dialects/json-gate.ts';
import { readChatRequest, readModel } from '../dialects/openai-chat/request.ts';
import type { Operation, Provider } from '../providers/provider.ts';
import { ScriptedDispatcher } from '../providers/scripted-dispatcher.ts';
import type { RelaySettings } from '../relay/attempt.ts';
import { IdempotencyMemory } from '../relay/idempotency.ts';
import { LiveCalls } from '../relay/live-calls.ts';
import { forward, type WithAnswer } from './forward.ts';

type Seen = { path: string; body: string };

function provider(name: string, seen: Seen[], more: Partial<Provider> = {}): Provider {
  return {
    name,
    models: undefined,
    dispatcher: new ScriptedDispatcher((path, body) => {
      seen.push({ path, body: body.toString() });
      return { status: 200, headers: { 'content-type': 'application/json' }, chunks: [Buffer.from('{}')] };
    }),
    origin: 'http://vendor.invalid',
    paths: { chat: '/c', embeddings: '/e' },
    credential: () => [],
    maxTokensField: 'max_tokens',
    timeouts: { headersMs: 1000, firstByteMs: 1000, idleMs: 1000, totalMs: 1000 },
    ...more,
  };
}

async function send(
  providers: Provider[],
  text: string,
  maxTokens?: number,
  operation: Operation = 'chat',
  headers = {},
) {
  const idempotency = new IdempotencyMemory({ now: Date.now });
  const body = Buffer.from(text);
  const json = readOutline(body);
  const wish = operation === 'chat' ? readChatRequest(json) : { model: readModel(json) };
  const settings = {
    elapsedMs: () => 12.34,
    pingMs: 15_000,
    slowReaderMs: 60_000,
    hideUpstreamErrors: false,
    live: new LiveCalls(),
  } satisfies RelaySettings;
  let result: Promise<WithAnswer> | undefined;
  const server = createServer((_, response) => {
    result = forward(operation, { providers, relay: settings, idempotency })({
      response,
      answerHeaders: ['x-request-id', 'req_1'],
      arrivedMs: 10,
      requestId: 'req_1',
      fields: new Map(Object.entries(headers)),
      body,
      json,
      caller: { kind: 'client', name: 'desktop', keyid: 'desktop' },
      product: { name: 'p', maxTokens },
      wish,
      decision: {},
      rate: {},
    });
    result.catch(() => void response.end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const request = get({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, agent: false });
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    await answer.toArray();
    return { added: await result!, headers: answer.headers };
  } finally {
    server.close();
  }
}

const CHAT = '{ "model":"m",  "messages":[{"role":"user","content":"\\u0068i"}], "x": 1.0 }';

describe('forwarding', () => {
  it('hands on the caller’s own bytes, and says who answered and how it went', async () => {
    const seen: Seen[] = [];
    const { added, headers } = await send([provider('vendor', seen)], CHAT);
    assert.deepEqual(seen, [{ path: '/c', body: CHAT }]);
    assert.deepEqual(added.relayed, {
      upstreamStatus: 200,
      bytes: 2,
      end: 'whole',
      usage: { outputTokens: 1, isEstimated: true },
      provider: 'vendor',
      repeatedAfter: undefined,
      error: undefined,
      kept: undefined,
    });
    assert.equal(headers['x-sallyport-overhead-ms'], '2.3');
  });

  for (const [what, text, ceiling, field, sent] of [
    ['a chat that names none', CHAT, 50, 'max_tokens', CHAT.replace(' }', ' ,"max_tokens":50}')],
    ['a chat that names none', CHAT, 50, 'max_completion_tokens', CHAT.replace(' }', ' ,"max_completion_tokens":50}')],
    [
      'a chat that names null',
      CHAT.replace('1.0', '1,"max_tokens":null'),
      50,
      'max_tokens',
      CHAT.replace('1.0', '1,"max_tokens":50'),
    ],
    ['a chat that names its own', CHAT.replace('1.0', '1,"max_tokens":7'), 50, 'max_tokens', undefined],
    [
      'a chat that names its own by the other name',
      CHAT.replace('1.0', '1,"max_completion_tokens":7'),
      50,
      'max_tokens',
      undefined,
    ],
    ['a chat without a ceiling', CHAT, undefined, 'max_tokens', undefined],
  ] as const) {
    it(`${sent === undefined ? 'adds nothing to' : `writes the ceiling as ${field} into`} ${what}`, async () => {
      const seen: Seen[] = [];
      await send([provider('vendor', seen, { maxTokensField: field })], text, ceiling);
      assert.equal(seen[0]?.body, sent ?? text);
      assert.doesNotThrow(() => readOutline(Buffer.from(seen[0]!.body)));
    });
  }

  it('puts no ceiling on embeddings', async () => {
    const seen: Seen[] = [];
    await send([provider('vendor', seen)], '{"model":"m","input":"a"}', 50, 'embeddings');
    assert.deepEqual(seen, [{ path: '/e', body: '{"model":"m","input":"a"}' }]);
  });

  it('asks the provider of the model and no other', async () => {
    const seen: Seen[] = [];
    const wrong: Seen[] = [];
    const providers = [
      provider('other', wrong, { models: ['o'] }),
      provider('any', wrong),
      provider('right', seen, { models: ['m'] }),
    ];
    assert.equal((await send(providers, CHAT)).added.relayed?.provider, 'right');
    assert.deepEqual([seen.length, wrong.length], [1, 0]);
  });

  it('says that a model is allowed and yet served by nobody', async () => {
    const seen: Seen[] = [];
    await assert.rejects(send([provider('other', seen, { models: ['o'] })], CHAT), {
      code: 'model_unserved',
      param: 'model',
      status: 400,
      message: /The product p allows m, but no provider/,
    });
    assert.deepEqual(seen, []);
  });
});

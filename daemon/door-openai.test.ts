import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import {
  APIConnectionError,
  APIError,
  AuthenticationError,
  InternalServerError,
  NotFoundError,
  OpenAI,
  RateLimitError,
} from 'openai';
import { CHAT, echo, openDoorWorld, until, type DoorWorld } from './door.test-support.ts';

// The OpenAI library as people use it: it knows a base URL and a key, and nothing of signatures.
describe('the OpenAI client at the door', () => {
  let world: DoorWorld;
  before(async () => void (world = await openDoorWorld()));
  after(() => world.close());
  beforeEach(() => {
    world.arrived.length = 0;
    world.state = 'active';
    world.answering = echo;
  });

  const client = (options: object = {}) =>
    new OpenAI({ apiKey: world.token, baseURL: `http://localhost:${world.port}/v1`, maxRetries: 0, ...options });
  const ask = { model: 'echo', messages: [{ role: 'user' as const, content: 'hello' }] };
  const json = (response: ServerResponse, status: number, value: object, headers: object = {}) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
  const chunk = (content: string) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`;

  it('chats', async () => {
    const answer = await client().chat.completions.create(ask);
    assert.equal(answer.choices[0]?.message.content, 'hello');
    assert.deepEqual(JSON.parse(world.arrived[0]!.body.toString()), ask);
    assert.doesNotMatch(world.arrived[0]!.rawHeaders.join(), /spl_|stainless/i);
  });

  it('streams', async () => {
    world.answering = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      for (const word of ['one ', 'two ', 'three']) response.write(chunk(word));
      response.end('data: [DONE]\n\n');
    };
    let text = '';
    for await (const part of await client().chat.completions.create({ ...ask, stream: true })) {
      text += part.choices[0]?.delta.content ?? '';
    }
    assert.equal(text, 'one two three');
  });

  it('never takes a broken stream for a whole one', async () => {
    for (const rest of [
      '',
      'data: {"cho',
      'event: error\ndata: {"error":{"message":"cut","code":"upstream_cut"}}\n\n',
    ]) {
      world.answering = (_, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(chunk('one') + rest, () => setImmediate(() => response.destroy()));
      };
      const stream = await client().chat.completions.create({ ...ask, stream: true });
      await assert.rejects(async () => {
        for await (const part of stream) assert.equal(part.choices[0]?.delta.content, 'one');
      });
    }
  });

  it('hangs up at the broker when it leaves a stream', async () => {
    world.answering = (_, response) =>
      void response.writeHead(200, { 'content-type': 'text/event-stream' }).write(chunk('one'));
    for await (const _ of await client().chat.completions.create({ ...ask, stream: true })) break;
    await until(() => world.open === 0);
  });

  it('embeds, lists models, and sends a file', async () => {
    world.answering = ({ url }, response) =>
      json(
        response,
        200,
        url === '/v1/embeddings'
          ? { data: [{ embedding: [1, 2] }] }
          : { data: [{ id: 'echo' }], id: 'file-1', text: 'hi' },
      );
    const embedding = await client().embeddings.create({ model: 'e', input: 'x', encoding_format: 'float' });
    assert.deepEqual(embedding.data[0]?.embedding, [1, 2]);
    assert.equal((await client().models.list()).data[0]?.id, 'echo');
    const file = new File([Buffer.alloc(500_000, 'x')], 'a.wav');
    assert.equal((await client().audio.transcriptions.create({ model: 'w', file })).text, 'hi');
    assert.deepEqual(
      world.arrived.map(({ method, url }) => `${method} ${url}`),
      ['POST /v1/embeddings', 'GET /v1/models', 'POST /v1/audio/transcriptions'],
    );
    assert.ok(world.arrived[2]!.body.length > 500_000);
  });

  it('goes to a product by its base URL', async () => {
    await client({ baseURL: `http://127.0.0.1:${world.port}/p/team-a/v1` }).chat.completions.create(ask);
    assert.equal(world.arrived[0]!.url, '/p/team-a/v1/chat/completions');
  });

  const REFUSALS: [
    what: string,
    kind: new (...parts: never[]) => APIError,
    code: string | null,
    act: () => Promise<unknown>,
  ][] = [
    [
      'a key that is none of ours',
      AuthenticationError,
      'token_missing',
      () => client({ apiKey: 'sk-other' }).chat.completions.create(ask),
    ],
    [
      'a token that is not known',
      AuthenticationError,
      'token_unknown',
      () => client({ apiKey: `spl_${'A'.repeat(43)}` }).models.list(),
    ],
    ['a path that is not served', NotFoundError, 'path_unknown', () => client().post('/whoami', { body: {} })],
    ['the broker’s own 404', NotFoundError, 'product_unknown', () => say(404, 'product_unknown')],
    ['the broker’s own 429', RateLimitError, 'rate_limited', () => say(429, 'rate_limited')],
    ['the broker’s own 401', AuthenticationError, 'device_revoked', () => say(401, 'device_revoked')],
    [
      'a daemon that is not enrolled',
      InternalServerError,
      'not_enrolled',
      () => ((world.state = 'none'), client().models.list()),
    ],
  ];
  const say = (status: number, code: string) => {
    world.answering = (_, response) => json(response, status, { error: { message: 'says the broker', code } });
    return client().chat.completions.create(ask);
  };
  for (const [what, kind, code, act] of REFUSALS) {
    it(`throws its own kind of error for ${what}`, async () => {
      await assert.rejects(act(), (error) => {
        assert.ok(error instanceof kind, String(error));
        assert.equal(error.code, code);
        return true;
      });
    });
  }

  it('tries again by itself when nothing was done, and not when it may have been paid for', async () => {
    world.answering = (_, response) => {
      if (world.arrived.length > 1) return echo(_, response);
      json(response, 503, { error: { message: 'wait', code: 'not_ready' } }, { 'retry-after-ms': '1' });
    };
    await client({ maxRetries: 2 }).chat.completions.create(ask);
    assert.equal(world.arrived.length, 2);
    world.arrived.length = 0;
    world.answering = (_, response) => void response.writeHead(200, { 'content-length': 100 }).flushHeaders();
    const cut = world.answering;
    world.answering = (request, response, body) => {
      cut(request, response, body);
      setTimeout(() => response.destroy(), 20);
    };
    await assert.rejects(client({ maxRetries: 2 }).chat.completions.create(ask), InternalServerError);
    assert.equal(world.arrived.length, 1);
  });

  it('gives up with a connection error when the daemon is gone', async () => {
    const other = await openDoorWorld();
    await other.close();
    await assert.rejects(
      client({ baseURL: `http://127.0.0.1:${other.port}/v1` }).chat.completions.create(ask),
      APIConnectionError,
    );
    assert.equal((await world.ask({ body: CHAT })).status, 200);
  });
});

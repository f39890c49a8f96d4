import assert from 'node:assert/strict';
import {
  OpenAI,
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
  UnprocessableEntityError,
} from 'openai';
import { signingFetch } from './signing-fetch.ts';
import { openWorld, type SECRETS, type World } from './world.ts';

// The OpenAI library as people use it; it knows nothing of us but a fetch that signs.
describe('the OpenAI client', () => {
  let world: World;
  before(async () => void (world = await openWorld()));
  after(() => world.close());

  const client = (who: keyof typeof SECRETS = 'desktop', base = '/v1', options: object = {}) =>
    new OpenAI({ apiKey: 'unused', baseURL: world.base + base, fetch: signingFetch(who), maxRetries: 0, ...options });
  const messages = [{ role: 'user' as const, content: 'hello' }];
  const ask = (content: string) => ({ model: 'echo', messages: [{ role: 'user' as const, content }] });

  it('chats', async () => {
    const answer = await client().chat.completions.create({ model: 'gpt-4o', messages });
    assert.equal(answer.choices[0]?.message.content, 'Good day');
  });

  it('streams, with usage when it asks for it', async () => {
    const stream = await client().chat.completions.create({
      ...ask('one two three'),
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, 'This is the built-in echo, not an AI model. You said: one two three');
    assert.deepEqual(usage, { prompt_tokens: 3, completion_tokens: 14, total_tokens: 17 });
  });

  it('stops where max_tokens says', async () => {
    const answer = await client().chat.completions.create({ ...ask('hello'), max_tokens: 4 });
    assert.equal(answer.choices[0]?.message.content, 'This is the built-in ');
    assert.equal(answer.choices[0]?.finish_reason, 'length');
    assert.equal(answer.usage?.completion_tokens, 4);
  });

  it('lists models', async () => {
    const names = [];
    for await (const { id } of client().models.list()) names.push(id);
    assert.deepEqual(names, ['echo', 'gpt-4o', 'gpt-4o-mini']);
  });

  it('embeds, in numbers and in base64', async () => {
    const embeddings = client().embeddings;
    const plain = await embeddings.create({ model: 'echo', input: ['a', 'b'], encoding_format: 'float' });
    const packed = await embeddings.create({ model: 'echo', input: ['a', 'b'] });
    assert.equal(plain.data[0]?.embedding.length, 8);
    assert.deepEqual(packed.data, plain.data);
    assert.notDeepEqual(plain.data[0]?.embedding, plain.data[1]?.embedding);
  });

  it('works with the product in the base URL', async () => {
    const answer = await client('laptop', '/p/product-b/v1').chat.completions.create({ model: 'echo', messages });
    assert.match(answer.choices[0]?.message.content ?? '', /You said: hello$/);
  });

  it('hears of a vendor that breaks off in the middle, and does not take it for the end', async () => {
    const stream = await client().chat.completions.create({ ...ask('/cut 3\none two'), stream: true });
    const read = async () => {
      for await (const chunk of stream) void chunk;
    };
    await assert.rejects(read, (error: Error) => error instanceof APIError && /incomplete/.test(error.message));
  });

  it('hears of a vendor that ends a stream politely but too early', async () => {
    world.vendor.answerWith((_, __, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(
        'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Go"}}]}\n\n',
      );
    });
    const stream = await client().chat.completions.create({ model: 'gpt-4o', messages, stream: true });
    const read = async () => {
      for await (const chunk of stream) void chunk;
    };
    await assert.rejects(read, APIError);
  });

  it('is not fooled by a whole answer that is cut', async () => {
    await assert.rejects(client().chat.completions.create(ask('/cut 2\none two three')), /terminated/);
  });

  const refusals: [
    why: string,
    run: () => Promise<unknown>,
    kind: new (...args: never[]) => InstanceType<typeof APIError>,
    says: RegExp,
  ][] = [
    [
      'a model it may not use',
      () => client().chat.completions.create({ model: 'gpt-5', messages }),
      BadRequestError,
      /GET \/v1\/models lists/,
    ],
    [
      'a product that is not its own',
      () => client('desktop', '/p/product-b/v1').models.list(),
      NotFoundError,
      /ask for access/,
    ],
    [
      'an address that is not served',
      () => client('desktop', '/v2').models.list(),
      NotFoundError,
      /Check the base URL/,
    ],
    [
      'a request that nobody signed',
      () => client('desktop', '/v1', { fetch }).models.list(),
      AuthenticationError,
      /sign it as docs\/protocol\.md shows/,
    ],
    [
      'a clock that is off',
      () => client('desktop', '/v1', { fetch: signingFetch('desktop', () => Date.now() - 400_000) }).models.list(),
      AuthenticationError,
      /check the clock/,
    ],
    [
      'a vendor that limits us',
      () => client().chat.completions.create(ask('/fail 429')),
      RateLimitError,
      /wait and try again/,
    ],
    [
      'a vendor that refuses what it was asked',
      () => client().chat.completions.create(ask('/fail 422')),
      UnprocessableEntityError,
      /refused the request: The echo was told/,
    ],
    [
      'a vendor that does not know our key',
      () => client().chat.completions.create(ask('/fail 401')),
      InternalServerError,
      /tell the operator/,
    ],
    [
      'a vendor that is down',
      () => client().chat.completions.create(ask('/fail 503')),
      InternalServerError,
      /could not serve/,
    ],
  ];
  for (const [why, run, kind, says] of refusals) {
    it(`is told in its own error class, and what to do, of ${why}`, async () => {
      await assert.rejects(run, (error: Error) => {
        assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
        assert.match(error.message, says);
        assert.match(String(error.requestID), /^req_/);
        return true;
      });
    });
  }

  it('waits as long as the rate asks for, and then gets through by itself', async function () {
    this.timeout(15_000);
    const patient = client('laptop', '/p/limited/v1', { maxRetries: 3 });
    const answers = await Promise.all([1, 2, 3].map(() => patient.chat.completions.create(ask('hi'))));
    assert.equal(answers.length, 3);
  });
});

describe('a body that is too large', () => {
  it('is refused with a sentence that the client can read, not with a broken connection', async () => {
    const world = await openWorld();
    try {
      for (const size of [70_000, 5_000_000, 30_000_000]) {
        const client = new OpenAI({
          apiKey: 'x',
          baseURL: `${world.base}/v1`,
          fetch: signingFetch('desktop'),
          maxRetries: 0,
        });
        const content = 'a'.repeat(size);
        const run = () => client.chat.completions.create({ model: 'echo', messages: [{ role: 'user', content }] });
        await assert.rejects(run, (error) => error instanceof APIError && error.status === 413, String(size));
      }
    } finally {
      await world.close();
    }
  });
});

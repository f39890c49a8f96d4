import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { OpenAI, APIError } from 'openai';
import type { Fault } from './fault-proxy.ts';
import { signingFetch } from './signing-fetch.ts';
import { answerOk, CHAT, openWorld, type World } from './world.ts';

describe('how often a vendor is asked', function () {
  let world: World;
  before(async () => {
    world = await openWorld({
      withFaults: true,
      timeouts: 'headers_seconds: 0.3, first_byte_seconds: 0.3, idle_seconds: 0.3',
    });
  });
  after(() => world.close());
  beforeEach(() => {
    world.vendor.requests.length = 0;
    world.vendor.answerWith((request, body, response) => {
      response.setHeader('connection', 'close');
      answerOk(request, body, response);
    });
  });
  afterEach(() => world.faults.plan(undefined));

  // As apps have it: two more tries, by itself.
  const client = () =>
    new OpenAI({
      apiKey: 'x',
      baseURL: `${world.base}/v1`,
      fetch: signingFetch('desktop'),
      maxRetries: 2,
      logLevel: 'off',
    });
  const messages = [{ role: 'user' as const, content: 'hello' }];
  const whole = () => client().chat.completions.create({ model: 'gpt-4o', messages });
  const stream = async () => {
    let text = '';
    for await (const { choices } of await client().chat.completions.create({
      model: 'gpt-4o',
      messages,
      stream: true,
    })) {
      text += choices[0]?.delta.content ?? '';
    }
    return text;
  };

  const first = (fault: Fault) => (connection: number) => (connection === 0 ? fault : undefined);
  const FAULTS: [
    what: string,
    plan: Parameters<World['faults']['plan']>[0],
    ask: () => Promise<unknown>,
    asked: number,
    isAnswered: boolean,
  ][] = [
    ['is asked again when it hung up before a word', first({ do: 'reset', at: 0 }), whole, 2, true],
    ['is asked again when it hung up politely before a word', first({ do: 'cut', at: 0 }), whole, 2, true],
    [
      'is asked again when its stream broke before the first event',
      first({ do: 'reset', at: 0, from: 'body' }),
      stream,
      2,
      true,
    ],
    [
      'is asked again when its stream ended before the first event',
      first({ do: 'cut', at: 0, from: 'body' }),
      stream,
      2,
      true,
    ],
    ['is asked no third time, nor by the client library', { do: 'reset', at: 0 }, whole, 2, false],
    ['is not asked again when it took too long: it may be at work', { do: 'stall', at: 0 }, whole, 1, false],
    ['is not asked again when it took too long to begin', { do: 'stall', at: 0, from: 'body' }, stream, 1, false],
    [
      'is not asked again when its stream broke behind the first event',
      first({ do: 'reset', at: 180, from: 'body' }),
      stream,
      1,
      false,
    ],
    ['is not asked again when its answer broke off', first({ do: 'reset', at: 20, from: 'body' }), whole, 1, false],
  ];
  for (const [what, plan, ask, asked, isAnswered] of FAULTS) {
    it(what, async () => {
      world.faults.plan(plan);
      if (isAnswered) await ask();
      else await assert.rejects(ask, (error) => error instanceof APIError || /terminated/.test(String(error)));
      await setTimeout(50);
      assert.equal(world.vendor.requests.length, asked);
      const keys = new Set(world.vendor.requests.map(({ headers }) => headers['idempotency-key']));
      assert.equal(keys.size, 1, 'the vendor can tell that it is the same request');
    });
  }

  it('is up to the client when the vendor itself said no', async () => {
    world.vendor.answerWith((_, __, response) => response.writeHead(500).end());
    await assert.rejects(whole, { status: 502 });
    assert.equal(world.vendor.requests.length, 3);
  });
});

describe('a request with an Idempotency-Key', () => {
  let world: World;
  const release: (() => void)[] = [];
  before(async () => {
    world = await openWorld({
      vendor: (request, body, response) => {
        const answer = () => answerOk(request, body, response);
        if (body.includes('wait')) release.push(answer);
        else answer();
      },
    });
  });
  after(() => world.close());
  beforeEach(() => void (world.vendor.requests.length = 0));
  const chat = (key: string, body: object = {}, rest: Parameters<World['chat']>[1] = {}) =>
    world.chat(body, { ...rest, headers: { 'idempotency-key': key } });

  it('is asked of the vendor once, however many send it at once, and each that asks again gets the same answer', async () => {
    const parallel = Array.from({ length: 20 }, () => chat('key-1', { user: 'wait' }));
    while (release.length === 0) await setTimeout(10);
    await setTimeout(200);
    for (const answer of release.splice(0)) answer();
    const answers = await Promise.all(parallel);
    const statuses = answers.map(({ status }) => status).toSorted();
    assert.deepEqual(statuses, [200, ...Array.from({ length: 19 }, () => 409)]);
    const busy = answers.find(({ status }) => status === 409);
    assert.deepEqual([busy?.error.code, busy?.headers['retry-after']], ['idempotency_in_progress', '1']);
    const again = await chat('key-1', { user: 'wait' });
    assert.deepEqual([again.status, again.headers['idempotent-replayed']], [200, 'true']);
    assert.equal(again.text, answers.find(({ status }) => status === 200)?.text);
    assert.notEqual(again.headers['x-request-id'], busy?.headers['x-request-id']);
    assert.equal(world.vendor.requests.length, 1);
  });

  it('belongs to its caller and product: another may use the same key, and gets an answer of its own', async () => {
    const other = { client: 'laptop' as const, path: '/p/product-a/v1/chat/completions' };
    assert.equal((await chat('key-2')).headers['idempotent-replayed'], undefined);
    assert.equal((await chat('key-2', {}, other)).headers['idempotent-replayed'], undefined);
    assert.equal((await chat('key-2', {}, other)).headers['idempotent-replayed'], 'true');
    assert.equal(world.vendor.requests.length, 2);
    const keys = world.vendor.requests.map(({ headers }) => headers['idempotency-key']);
    assert.notEqual(keys[0], keys[1]);
    assert.ok(!keys.join().includes('key-2'));
  });

  it('is refused when it was used for something else, and when it is none', async () => {
    await chat('key-3');
    const mismatch = await chat('key-3', { temperature: 0.5 });
    assert.deepEqual([mismatch.status, mismatch.error.code], [422, 'idempotency_mismatch']);
    const malformed = await chat('x'.repeat(256));
    assert.deepEqual([malformed.status, malformed.error.code], [400, 'idempotency_key_malformed']);
    assert.equal(world.vendor.requests.length, 1);
  });

  it('is covered by the signature: whoever passes it on cannot put another in its place', async () => {
    const prepared = world.prepare({ body: CHAT, headers: { 'idempotency-key': 'key-4' } });
    prepared.headers['idempotency-key'] = 'key-5';
    assert.equal((await world.deliver(prepared)).error.code, 'signature_invalid');
    const bare = world.prepare({ body: CHAT });
    bare.headers['idempotency-key'] = 'key-5';
    assert.equal((await world.deliver(bare)).status, 401);
  });

  it('is free again when the answer failed, and a stream is never kept', async () => {
    world.vendor.answerWith((_, __, response) => response.writeHead(500).end());
    assert.equal((await chat('key-6')).status, 502);
    world.vendor.answerWith(answerOk);
    assert.equal((await chat('key-6')).status, 200);
    assert.match((await chat('key-7', { stream: true })).text, /\[DONE\]/);
    const again = await chat('key-7', { stream: true });
    assert.deepEqual([again.status, again.headers['idempotent-replayed']], [200, undefined]);
  });
});

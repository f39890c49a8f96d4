import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { hmacKey } from '@sallyport/protocol/keys.ts';
import { openWorld, VENDOR_KEY, type World } from './world.ts';

describe('a signed chat', () => {
  let world: World;
  before(async () => void (world = await openWorld()));
  after(() => world.close());
  beforeEach(() => void (world.vendor.requests.length = 0));

  it('reaches the model with the vendor’s key, and with nothing else of the caller’s', async () => {
    const headers = { cookie: 'a=b', 'x-forwarded-for': '192.0.2.1', 'openai-organization': 'someone' };
    const answer = await world.chat({}, { headers });
    assert.equal(answer.status, 200);
    assert.equal(JSON.parse(answer.text).choices[0].message.content, 'Good day');
    const [seen] = world.vendor.requests;
    assert.equal(seen?.headers.authorization, `Bearer ${VENDOR_KEY}`);
    const names = Object.keys(seen?.headers ?? {}).toSorted();
    assert.deepEqual(names, [
      'accept',
      'accept-encoding',
      'authorization',
      'connection',
      'content-length',
      'content-type',
      'host',
      'idempotency-key',
    ]);
  });

  it('carries a name, what is left of the rate, and how long the broker took; and nothing of the vendor’s house', async () => {
    const { headers } = await world.chat();
    assert.match(String(headers['x-request-id']), /^req_[0-9a-f-]{36}$/);
    assert.equal(headers['x-ratelimit-limit-requests'], '100000');
    assert.ok(Number(headers['x-sallyport-overhead-ms']) < 1000);
    assert.equal(headers['set-cookie'], undefined);
    assert.equal(headers['server'], undefined);
  });

  it('passes byte for byte where nothing has to change', async () => {
    const body =
      '{ "model" : "gpt-4o",\n "messages":[{"role":"user","content":"h\\u00e9"}], "max_tokens":5, "odd":1e2 }';
    await world.ask({ body });
    assert.equal(world.vendor.requests[0]?.body, body);
  });

  it('is given the product’s ceiling when it names none of its own, in the field that the vendor takes', async () => {
    await world.chat();
    assert.equal(
      world.vendor.requests[0]?.body,
      '{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}],"max_completion_tokens":100}',
    );
  });

  it('streams, and says so to every proxy on the way', async () => {
    const answer = await world.chat({ stream: true });
    assert.equal(answer.headers['content-type'], 'text/event-stream');
    assert.equal(answer.headers['cache-control'], 'no-cache, no-transform');
    assert.equal(answer.headers['x-accel-buffering'], 'no');
    assert.match(answer.text, /Good.* day.*data: \[DONE\]\n\n$/s);
  });

  it('leaves one line in the log, which names the rule that let it pass and holds no body and no key', async () => {
    const { headers } = await world.chat({ messages: [{ role: 'user', content: 'a planted sentence' }] });
    const [line, ...others] = world.log.filter((entry) => entry.includes(String(headers['x-request-id'])));
    assert.equal(others.length, 0);
    const entry = JSON.parse(line ?? '');
    assert.equal(entry.rule, 'products.product-a.models[0]');
    assert.equal(entry.caller, 'desktop');
    assert.equal(entry.provider, 'vendor');
    assert.equal(entry.status, 200);
    const everything = world.log.join('');
    assert.doesNotMatch(everything, /planted sentence|planted-canary|dddddddd/);
  });

  describe('under a product', () => {
    const allowed: [how: string, ask: Parameters<World['ask']>[0]][] = [
      ['in the path of the older form', { path: '/v1/chat/product-b', client: 'laptop' }],
      ['in the path of a base URL', { path: '/p/product-b/v1/chat/completions', client: 'laptop' }],
      ['in the header', { headers: { 'x-sallyport-product': 'product-b' }, client: 'laptop' }],
      [
        'in both, when they agree',
        { path: '/v1/chat/product-b', headers: { 'x-sallyport-product': 'product-b' }, client: 'laptop' },
      ],
      ['by being the only one', { client: 'desktop' }],
    ];
    for (const [how, ask] of allowed) {
      it(`passes when it is named ${how}`, async () => {
        assert.equal((await world.chat({ model: 'echo' }, ask)).status, 200);
      });
    }

    const refused: [how: string, ask: Parameters<World['ask']>[0], status: number, code: string][] = [
      [
        'named twice and differently',
        { path: '/v1/chat/product-b', headers: { 'x-sallyport-product': 'product-a' }, client: 'laptop' },
        400,
        'product_conflict',
      ],
      ['not named, where there are several', { client: 'laptop' }, 400, 'product_required'],
      ['of somebody else', { path: '/v1/chat/product-b', client: 'desktop' }, 404, 'product_unknown'],
      ['that does not exist', { path: '/v1/chat/product-z', client: 'laptop' }, 404, 'product_unknown'],
      ['named completions', { path: '/p/completions/v1/chat/completions', client: 'laptop' }, 404, 'product_unknown'],
    ];
    for (const [how, ask, status, code] of refused) {
      it(`is refused with ${status} when it is ${how}`, async () => {
        const answer = await world.chat({ model: 'echo' }, ask);
        assert.deepEqual([answer.status, answer.error.code], [status, code]);
      });
    }
  });

  describe('is refused, and never reaches a vendor,', () => {
    const refused: [why: string, body: object, status: number, code: string, param: string][] = [
      ['with a model outside the product', { model: 'gpt-5' }, 400, 'model_not_allowed', 'model'],
      ['with a model that no provider serves', { model: 'gpt-4o-2024' }, 400, 'model_unserved', 'model'],
      ['with no model', { model: undefined }, 400, 'field_invalid', 'model'],
      ['with a model that is no text', { model: 7 }, 400, 'field_invalid', 'model'],
      ['with messages that are no list', { messages: 'hello' }, 400, 'field_invalid', 'messages'],
      ['with too many tokens', { max_tokens: 101 }, 400, 'max_tokens_exceeded', 'max_tokens'],
      [
        'with too many tokens under the newer name',
        { max_tokens: 1, max_completion_tokens: 101 },
        400,
        'max_tokens_exceeded',
        'max_completion_tokens',
      ],
      ['with half a token', { max_tokens: 0.5 }, 400, 'field_invalid', 'max_tokens'],
      ['with no token at all', { max_tokens: 0 }, 400, 'field_invalid', 'max_tokens'],
      ['with too much heat', { temperature: 1.1 }, 400, 'temperature_out_of_range', 'temperature'],
      ['with too little heat', { temperature: -0.1 }, 400, 'temperature_out_of_range', 'temperature'],
      ['with a temperature that is text', { temperature: '1' }, 400, 'field_invalid', 'temperature'],
      ['with a stream that is neither true nor false', { stream: 'yes' }, 400, 'field_invalid', 'stream'],
    ];
    for (const [why, body, status, code, param] of refused) {
      it(why, async () => {
        const answer = await world.chat(body);
        assert.deepEqual([answer.status, answer.error.code, answer.error.param], [status, code, param]);
        assert.equal(world.vendor.requests.length, 0);
      });
    }
  });

  it('leaves the rule that refused it in the log, and not in the answer', async () => {
    const refused: [body: object, ask: Parameters<World['ask']>[0], rule: string][] = [
      [{ model: 'gpt-5' }, {}, 'products.product-a.models'],
      [{ max_tokens: 101 }, {}, 'products.product-a.max_tokens'],
      [{ temperature: 2 }, {}, 'products.product-a.temperature'],
    ];
    for (const [body, ask, rule] of refused) {
      const answer = await world.chat(body, ask);
      const line = world.log.find((entry) => entry.includes(String(answer.headers['x-request-id'])));
      assert.equal(JSON.parse(line ?? '').rule, rule);
      assert.ok(!answer.text.includes(rule));
    }
  });

  it('is answered in the edges of what a product allows', async () => {
    for (const body of [
      { max_tokens: 100 },
      { temperature: 0 },
      { temperature: 1 },
      { model: 'gpt-4o-mini' },
      { temperature: null },
    ]) {
      assert.equal((await world.chat(body)).status, 200, JSON.stringify(body));
    }
  });

  it('lists the models that this caller may use, and no others', async () => {
    const list = async (ask: object) =>
      JSON.parse((await world.ask({ method: 'GET', path: '/v1/models', ...ask })).text);
    const names = (answer: { data: { id: string }[] }) => answer.data.map(({ id }) => id);
    assert.deepEqual(names(await list({})), ['echo', 'gpt-4o', 'gpt-4o-mini']);
    assert.deepEqual(names(await list({ path: '/p/product-b/v1/models', client: 'laptop' })), ['echo']);
    assert.equal((await list({ path: '/p/product-b/v1/models' })).error.code, 'product_unknown');
  });

  it('embeds', async () => {
    const answer = await world.ask({ path: '/v1/embeddings', body: { model: 'gpt-4o', input: 'hello' } });
    assert.deepEqual(JSON.parse(answer.text).data[0].embedding, [0.5, -0.5]);
    assert.equal(world.vendor.requests[0]?.path, '/v1/embeddings');
    const refused = await world.ask({ path: '/v1/embeddings', body: { model: 'gpt-4o' } });
    assert.deepEqual([refused.status, refused.error.param], [400, 'input']);
  });

  it('is limited by pace and then by the day, for each caller and product by itself', async () => {
    const ask = { path: '/v1/chat/limited', client: 'laptop' } as const;
    const statuses = [];
    for (let i = 0; i < 3; i++) statuses.push(await world.chat({ model: 'echo' }, ask));
    assert.deepEqual(
      statuses.map(({ status }) => status),
      [200, 200, 429],
    );
    const [, , last] = statuses;
    assert.equal(last?.error.code, 'rate_limited');
    assert.ok(Number(last?.headers['retry-after']) >= 1);
    assert.equal(last?.headers['x-ratelimit-remaining-requests'], '0');
    assert.ok(world.log.some((entry) => entry.includes('"rule":"products.limited.rate"')));
    assert.equal((await world.chat({ model: 'echo' }, { path: '/v1/chat/product-b', client: 'laptop' })).status, 200);
  });
});

describe('an address that floods', () => {
  it('is told to wait before anything else is looked at', async () => {
    const world = await openWorld({ limits: 'limits: { address: { burst: 3, per_second: 0.1 } }' });
    try {
      const answers = [];
      for (let i = 0; i < 5; i++) answers.push(await world.ask({ method: 'GET', path: '/v1/models', signed: false }));
      assert.deepEqual(
        answers.map(({ status }) => status),
        [401, 401, 401, 429, 429],
      );
      assert.equal(answers[4]?.error.code, 'address_rate');
      assert.ok(Number(answers[4]?.headers['retry-after']) > 5);
    } finally {
      await world.close();
    }
  });
});

describe('a client with an Ed25519 key', () => {
  it('is known by its public half alone, and not by anybody else’s private one', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64');
    const world = await openWorld({
      policy: `
products: { product-a: { models: [echo] } }
clients: { robot: { public_key: "${raw}", products: [product-a] } }`,
    });
    try {
      const key = { keyid: 'robot', algorithm: 'ed25519', key: privateKey } as const;
      assert.equal((await world.chat({ model: 'echo' }, { key })).status, 200);
      const other = { ...key, key: generateKeyPairSync('ed25519').privateKey };
      assert.equal((await world.chat({ model: 'echo' }, { key: other })).error.code, 'signature_invalid');
      // The public half is no secret: used as one, it must open nothing.
      const confused = { keyid: 'robot', ...hmacKey(Buffer.from(raw, 'base64')) };
      assert.equal((await world.chat({ model: 'echo' }, { key: confused })).error.code, 'signature_invalid');
    } finally {
      await world.close();
    }
  });
});

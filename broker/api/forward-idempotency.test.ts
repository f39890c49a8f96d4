import assert from 'node:assert/strict';
import { request as httpRequest, type ClientRequest, type RequestListener, type ServerResponse } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { Agent } from 'undici';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { readOutline } from '../dialects/json-gate.ts';
import { readChatRequest, readModel } from '../dialects/openai-chat/request.ts';
import type { Provider } from '../providers/provider.ts';
import type { RelaySettings } from '../relay/attempt.ts';
import { answerTo, DONE, event, JSON_TYPE, openHops, read, saying, SSE } from '../relay/hop.test-support.ts';
import { IdempotencyMemory } from '../relay/idempotency.ts';
import { LiveCalls } from '../relay/live-calls.ts';
import { forward, type WithAnswer } from './forward.ts';

type Asked = { key?: string; client?: string; product?: string; path?: string; text?: string; stream?: boolean };

const COMPLETION = '{"id":"c1","choices":[]}';
const GOOD = saying([COMPLETION], { headers: { ...JSON_TYPE, 'openai-version': '1' } });

describe('forwarding what is asked twice under an Idempotency-Key', () => {
  const hops = openHops();
  afterEach(hops.close);

  /** A vendor that behaves like this, and a broker in front of it that remembers. */
  async function open(vendor: RequestListener) {
    const keys: (string | undefined)[] = [];
    const script = { vendor };
    const provider: Provider = {
      name: 'vendor',
      models: undefined,
      dispatcher: hops.own(new Agent()),
      origin: await hops.listen((request, response) => {
        keys.push(request.headers['idempotency-key'] as string | undefined);
        script.vendor(request, response);
      }),
      paths: { chat: '/c', embeddings: '/e' },
      credential: () => [],
      maxTokensField: 'max_tokens',
      timeouts: { headersMs: 2000, firstByteMs: 2000, idleMs: 2000, totalMs: 2000 },
    };
    const relay: RelaySettings = {
      elapsedMs: () => performance.now(),
      pingMs: 5000,
      slowReaderMs: 5000,
      hideUpstreamErrors: false,
      live: new LiveCalls(),
    };
    const idempotency = new IdempotencyMemory({ now: Date.now });
    const way = { providers: [provider], relay, idempotency };
    const ways = { chat: forward('chat', way), embeddings: forward('embeddings', way) };
    const calls: { response: ServerResponse; end: Promise<WithAnswer | ApiError> }[] = [];
    const origin = await hops.listen(async (request, response) => {
      const body = Buffer.concat(await request.toArray());
      const json = readOutline(body);
      const operation = request.url === '/embeddings' ? 'embeddings' : 'chat';
      const end = ways[operation]({
        response,
        answerHeaders: ['x-request-id', `req_${calls.length}`],
        arrivedMs: 0,
        requestId: `req_${calls.length}`,
        fields: new Map(Object.entries(request.headers as Record<string, string>)),
        body,
        json,
        caller: { kind: 'client', name: String(request.headers['x-client']), keyid: 'k' },
        product: { name: String(request.headers['x-product']) },
        wish: operation === 'chat' ? readChatRequest(json) : { model: readModel(json) },
        decision: {},
        rate: {},
      }).catch((error: unknown) => {
        if (!(error instanceof ApiError)) throw error;
        response.writeHead(error.status, { code: error.code, ...error.headers }).end();
        return error;
      });
      calls.push({ response, end });
    });
    const ask = ({
      key,
      client = 'desktop',
      product = 'p',
      path = '/chat',
      text = 'hi',
      stream = false,
    }: Asked): ClientRequest => {
      const headers = {
        'x-client': client,
        'x-product': product,
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      };
      const messages = [{ role: 'user', content: text }];
      const body = path === '/chat' ? { model: 'm', messages, stream } : { model: 'm', input: text };
      return httpRequest(origin + path, { method: 'POST', agent: false, headers })
        .on('error', () => {})
        .end(JSON.stringify(body));
    };
    const call = async (asked: Asked) => {
      const answer = await read(await answerTo(ask(asked)));
      await calls.at(-1)?.end;
      return answer;
    };
    return { ask, call, calls, keys, script, idempotency };
  }

  it('gives the kept answer without asking again, and says so', async () => {
    const { call, calls, keys } = await open(GOOD);
    const first = await call({ key: 'k' });
    const second = await call({ key: 'k' });
    assert.deepEqual([first.text, second.text, second.status], [COMPLETION, COMPLETION, 200]);
    assert.equal(first.headers['idempotent-replayed'], undefined);
    assert.equal(second.headers['idempotent-replayed'], 'true');
    assert.deepEqual([second.headers['content-type'], second.headers['openai-version']], ['application/json', '1']);
    // What says that it is another request is that request's own.
    assert.deepEqual([first.headers['x-request-id'], second.headers['x-request-id']], ['req_0', 'req_1']);
    assert.equal(keys.length, 1);
    assert.deepEqual(await calls[1]!.end, {});
  });

  it('keeps nothing where no key was sent', async () => {
    const { call, keys, idempotency } = await open(GOOD);
    await call({});
    await call({});
    assert.deepEqual([keys, idempotency.bytes], [['req_0', 'req_1'], 0]);
  });

  it('asks the vendor under a key of ours, which is the same when it is asked again', async () => {
    const { call, keys, script } = await open(saying(['no'], { status: 500 }));
    await call({ key: 'k' });
    script.vendor = GOOD;
    await call({ key: 'k' });
    assert.equal(keys.length, 2);
    assert.match(keys[0]!, /^[0-9a-f]{64}$/);
    assert.equal(keys[0], keys[1]);
  });

  for (const [what, asked, code, status] of [
    ['is another question', { key: 'k', text: 'ho' }, 'idempotency_mismatch', 422],
    ['goes to another place', { key: 'k', path: '/embeddings' }, 'idempotency_mismatch', 422],
    ['wants a stream', { key: 'k', stream: true }, 'idempotency_mismatch', 422],
    ['has no key that can be one', { key: 'a b' }, 'idempotency_key_malformed', 400],
    ['has an empty key', { key: '' }, 'idempotency_key_malformed', 400],
  ] as const) {
    it(`refuses the second with ${status} when it ${what}, and asks nobody`, async () => {
      const { call, keys } = await open(GOOD);
      await call({ key: 'k' });
      const { status: said, headers } = await call(asked);
      assert.deepEqual([said, headers['code'], keys.length], [status, code, 1]);
    });
  }

  it('refuses the second with 409 while the first is being answered, of many that come at once all but one', async () => {
    const vendor = Promise.withResolvers<ServerResponse>();
    const { call, keys } = await open((_, response) => vendor.resolve(response));
    const first = call({ key: 'k' });
    const held = await vendor.promise;
    const others = await Promise.all(Array.from({ length: 10 }, () => call({ key: 'k' })));
    for (const { status, headers } of others) {
      assert.deepEqual([status, headers['code'], headers['retry-after']], [409, 'idempotency_in_progress', '1']);
    }
    held.writeHead(200, JSON_TYPE).end(COMPLETION);
    assert.equal((await first).text, COMPLETION);
    assert.equal((await call({ key: 'k' })).text, COMPLETION);
    assert.equal(keys.length, 1);
  });

  it('refuses the second with 409 when the first was answered at too great a length to be kept', async () => {
    const long = JSON.stringify({ text: 'x'.repeat(5 * 1024 ** 2) });
    const { call, keys, idempotency } = await open(saying([long], { headers: JSON_TYPE }));
    assert.equal((await call({ key: 'k' })).bytes.length, long.length);
    const { status, headers } = await call({ key: 'k' });
    assert.deepEqual([status, headers['code'], headers['x-should-retry']], [409, 'idempotency_too_large', 'false']);
    assert.equal(keys.length, 1);
    assert.ok(idempotency.bytes < 1024);
  });

  it('keeps each caller’s, and each product’s, by itself', async () => {
    const { call, keys } = await open(
      (_, response) => void response.writeHead(200, JSON_TYPE).end(`{"n":${keys.length}}`),
    );
    for (const round of [1, 2]) {
      assert.equal((await call({ key: 'k' })).text, '{"n":1}', `round ${round}`);
      assert.equal((await call({ key: 'k', client: 'laptop' })).text, '{"n":2}');
      assert.equal((await call({ key: 'k', product: 'q', text: 'ho' })).text, '{"n":3}');
    }
    assert.equal(new Set(keys).size, 3);
  });

  describe('asks again', () => {
    const FAILURES: [what: string, vendor: RequestListener, stream?: true][] = [
      ['after a refusal', saying(['{"error":{"message":"no"}}'], { status: 400 })],
      ['after a failure', saying(['no'], { status: 500 })],
      ['after no answer', ({ socket }) => void socket.destroy()],
      [
        'after half of one',
        (_, response) => void response.writeHead(200, JSON_TYPE).write('{"a":', () => response.destroy()),
      ],
      ['after a stream that broke off', saying([event('a')]), true],
      ['after a stream, of which nothing is kept', saying([event('a'), DONE]), true],
    ];
    for (const [what, vendor, stream = false] of FAILURES) {
      it(what, async () => {
        const { call, keys, script, idempotency } = await open(vendor);
        await call({ key: 'k', stream });
        assert.equal(idempotency.bytes, 0);
        const before = keys.length;
        script.vendor = stream ? saying([DONE]) : GOOD;
        const { text, headers } = await call({ key: 'k', stream });
        assert.deepEqual([text, headers['idempotent-replayed']], [stream ? DONE : COMPLETION, undefined]);
        assert.equal(keys.length, before + 1);
        assert.equal(new Set(keys).size, 1);
      });
    }

    it('when the one who asked first hung up before the end', async () => {
      const vendor = Promise.withResolvers<ServerResponse>();
      const { ask, call, calls, keys, script } = await open((_, response) => vendor.resolve(response));
      const request = ask({ key: 'k' });
      (await vendor.promise).writeHead(200, JSON_TYPE).write('{"a":');
      await answerTo(request);
      request.destroy();
      await calls[0]!.end;
      script.vendor = GOOD;
      assert.equal((await call({ key: 'k' })).text, COMPLETION);
      assert.equal(keys.length, 2);
    });

    it('and takes the key no longer than the stream lasts', async () => {
      const vendor = Promise.withResolvers<ServerResponse>();
      const { ask, call, calls, script } = await open((_, response) => vendor.resolve(response));
      const answering = answerTo(ask({ key: 'k', stream: true }));
      const held = await vendor.promise;
      held.writeHead(200, SSE).write(event('a'));
      const answer = await answering;
      assert.equal((await call({ key: 'k', stream: true })).status, 409);
      held.end(DONE);
      await read(answer);
      await calls[0]!.end;
      script.vendor = saying([DONE]);
      assert.equal((await call({ key: 'k', stream: true })).text, DONE);
    });
  });

  it('keeps a whole answer though its caller had hung up, and gives it to the one who asks again', async () => {
    const long = JSON.stringify({ text: 'x'.repeat(3 * 1024 ** 2) });
    const { ask, call, calls, keys } = await open((_, response) => {
      response.writeHead(200, { ...JSON_TYPE, 'content-length': long.length }).end(long);
    });
    const request = ask({ key: 'k' });
    await answerTo(request);
    // All of it is here; the caller has read none of it.
    while (!calls[0]!.response.writableEnded) await setTimeout(5);
    request.destroy();
    const end = await calls[0]!.end;
    assert.ok(!(end instanceof ApiError));
    const { text, headers } = await call({ key: 'k' });
    assert.deepEqual([text.length, headers['idempotent-replayed'], keys.length], [long.length, 'true', 1]);
  });
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import { Agent } from 'undici';
import type { Relayed } from './attempt.ts';
import { answerTo, DONE, event, JSON_TYPE, openHops, read, saying, SSE } from './hop.test-support.ts';
import type { LiveCalls } from './live-calls.ts';

const USAGE = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 };

describe('an attempt', () => {
  const hops = openHops();
  const { hop } = hops;
  afterEach(hops.close);

  it('asks with a request of our own, in which nothing of the caller’s headers is left', async () => {
    const seen: { line: string; headers: IncomingMessage['headers']; body: string }[] = [];
    const { call } = await hop({
      vendors: [
        (request, response) => {
          request.setEncoding('utf8').on('data', (body: string) => {
            seen.push({ line: `${request.method} ${request.url}`, headers: request.headers, body });
            response.writeHead(200, JSON_TYPE).end('{}');
          });
        },
      ],
    });
    await call();
    await call('/embeddings');
    const [chat, embeddings] = seen;
    assert.equal(chat?.line, 'POST /v1/chat/completions');
    assert.equal(embeddings?.line, 'POST /v1/embeddings');
    assert.equal(chat.body, '{"model":"m","messages":[],"for":"vendor-1"}');
    const { host, connection, ...headers } = chat.headers;
    assert.match(`${host} ${connection}`, /^127\.0\.0\.1:\d+ keep-alive$/);
    assert.deepEqual(headers, {
      'content-type': 'application/json',
      accept: 'application/json',
      'accept-encoding': 'identity',
      'idempotency-key': 'key_1',
      authorization: 'Bearer sk-vendor-1',
      'content-length': '44',
    });
  });

  it('asks for events when the caller asked for a stream', async () => {
    const { call, asked } = await hop({ vendors: [saying([DONE])], isStream: true });
    await call();
    assert.equal(asked[0]![0]!.headers.accept, 'text/event-stream');
  });

  it('tells the caller how long the broker itself needed', async () => {
    const { call } = await hop({ vendors: [saying(['{}'], { headers: JSON_TYPE })] });
    const { headers } = await call();
    assert.equal(headers['x-sallyport-overhead-ms'], '1.3');
    assert.equal(headers['x-request-id'], 'req_1');
  });

  it('says how it went, who answered, and what was used', async () => {
    const text = JSON.stringify({ choices: [], usage: USAGE });
    const { outcome, calls } = await hop({ vendors: [saying([text], { headers: JSON_TYPE })], keepBytes: 1000 });
    const { answer, end } = await outcome();
    assert.equal(answer.text, text);
    assert.deepEqual(end, {
      upstreamStatus: 200,
      bytes: text.length,
      end: 'whole',
      usage: { inputTokens: 7, outputTokens: 3, isEstimated: false },
      provider: 'vendor-1',
      repeatedAfter: undefined,
      error: undefined,
      kept: { status: 200, headers: ['content-type', 'application/json'], body: Buffer.from(text) },
    } satisfies Relayed);
    const { response } = calls[0]!;
    assert.equal(response.listenerCount('drain'), 0);
  });

  for (const [what, pieces, tokens] of [
    ['read from the last chunk', [event('a'), `data: ${JSON.stringify({ choices: [], usage: USAGE })}\n\n`, DONE], 3],
    ['counted where nobody says it', [event('a'), event('b'), DONE], 2],
    ['counted where a stream is cut', [event('a'), event('b')], 2],
  ] as const) {
    it(`says what a stream used: ${what}`, async () => {
      const { outcome } = await hop({ vendors: [saying(pieces, { pauseMs: 5 })], isStream: true });
      const { end } = await outcome();
      assert.ok(!(end instanceof ApiError));
      assert.equal(end.usage?.outputTokens, tokens);
      assert.equal(end.usage.isEstimated, tokens === 2);
    });
  }

  it('says what a stream used whose caller left', async () => {
    const { ask, calls } = await hop({
      vendors: [(_, response) => void response.writeHead(200, SSE).write(event('a') + event('b'))],
      isStream: true,
    });
    const request = ask();
    await answerTo(request);
    request.destroy();
    const end = await calls[0]!.end;
    assert.ok(!(end instanceof ApiError));
    assert.deepEqual([end.end, end.usage], ['hung up', { outputTokens: 2, isEstimated: true }]);
  });

  const said = (message: string) => JSON.stringify({ error: { message, type: 't', param: 'n', code: 'bad_n' } });
  const MAPPING: [status: number, body: string, becomes: number, code: ErrorCode][] = [
    [400, said('n is too large'), 400, 'upstream_refused'],
    [404, said('no such model'), 404, 'upstream_refused'],
    [409, said('conflict'), 409, 'upstream_refused'],
    [413, said('too long'), 413, 'upstream_refused'],
    [422, said('no'), 422, 'upstream_refused'],
    [429, said('slow down'), 429, 'upstream_busy'],
    [401, said('bad key sk-vendor'), 502, 'upstream_failed'],
    [403, said('not for org-1'), 502, 'upstream_failed'],
    [402, said('pay'), 502, 'upstream_failed'],
    [301, '', 502, 'upstream_failed'],
    [307, '', 502, 'upstream_failed'],
    [500, said('stack trace'), 502, 'upstream_failed'],
    [503, 'busy', 502, 'upstream_failed'],
    [400, '<html>proxy</html>', 502, 'upstream_failed'],
    [400, 'null', 502, 'upstream_failed'],
  ];
  for (const [status, body, becomes, code] of MAPPING) {
    it(`makes ${becomes} ${code} of a vendor’s ${status} ${body.slice(0, 40)}`, async () => {
      const headers = { 'retry-after': '7', location: 'http://127.0.0.1:9/', 'set-cookie': 'a=b' };
      const { outcome, asked } = await hop({ vendors: [saying([body], { status, headers })] });
      const { answer, end } = await outcome();
      assert.ok(end instanceof ApiError);
      assert.deepEqual([end.status, end.code, answer.status], [becomes, code, becomes]);
      assert.equal(end.headers['retry-after'], code === 'upstream_busy' ? '7' : undefined);
      if (code === 'upstream_failed') assert.doesNotMatch(end.message, /sk-vendor|org-1|stack|proxy|pay/);
      if (code === 'upstream_refused') assert.deepEqual([end.param, end.upstreamCode], ['n', 'bad_n']);
      assert.equal(asked[0]!.length, 1);
    });
  }

  for (const [name, inform] of [
    ['103 Early Hints', (response) => response.writeEarlyHints({ link: '</style.css>; rel=preload' })],
    ['102 Processing', (response) => response.writeProcessing()],
  ] as const satisfies [string, (response: ServerResponse) => void][]) {
    it(`reads the answer that follows a ${name}`, async () => {
      const vendor: RequestListener = (_, response) => {
        inform(response);
        response.writeHead(200, JSON_TYPE).end('{"a":1}');
      };
      const { outcome } = await hop({ vendors: [vendor] });
      const { answer, end } = await outcome();
      assert.deepEqual([answer.status, answer.text], [200, '{"a":1}']);
      assert.ok(!(end instanceof ApiError));
      assert.deepEqual([end.upstreamStatus, end.bytes, end.end], [200, 7, 'whole']);
    });
  }

  it('gives up on a refusal that has no end', async () => {
    const gone = Promise.withResolvers<void>();
    const { outcome } = await hop({
      vendors: [
        (_, response) => {
          response.writeHead(400);
          const more = () => {
            while (response.write('x'.repeat(16_384)));
            response.once('drain', more);
          };
          more();
          response.on('close', gone.resolve);
        },
      ],
    });
    assert.equal((await outcome()).answer.status, 502);
    await gone.promise;
  });

  it('passes nothing on that was compressed though we asked for it plain', async () => {
    for (const [encoding, status] of [
      ['gzip', 502],
      ['identity', 200],
    ] as const) {
      const headers = { ...JSON_TYPE, 'content-encoding': encoding };
      const { outcome } = await hop({ vendors: [saying(['{}'], { headers })] });
      assert.equal((await outcome()).answer.status, status);
    }
  });

  it('says that a vendor cannot be reached', async () => {
    const { outcome } = await hop({ vendors: ['nobody'] });
    const { end } = await outcome();
    assert.ok(end instanceof ApiError);
    assert.deepEqual([end.code, end.status, end.headers], ['upstream_unreachable', 502, {}]);
    assert.match(String(end.cause), /ECONNREFUSED/);
  });

  it('says of a vendor that hangs up without a word that it broke off, and that it may have been paid', async () => {
    const { outcome } = await hop({ vendors: [(request) => void request.socket.destroy()] });
    const { end } = await outcome();
    assert.ok(end instanceof ApiError);
    assert.deepEqual([end.code, end.status, end.headers], ['upstream_cut', 502, { 'x-should-retry': 'false' }]);
  });

  describe('that is hidden from the caller', () => {
    const relay = { hideUpstreamErrors: true };
    const HIDDEN: [what: string, vendor: RequestListener | 'nobody', headers: object][] = [
      ['a refusal', saying([said('n is too large')], { status: 400 }), {}],
      ['a busy vendor', saying([''], { status: 429, headers: { 'retry-after': '7' } }), { 'retry-after': '7' }],
      ['a broken vendor', saying([''], { status: 500 }), {}],
      ['a vendor that is not there', 'nobody', {}],
      ['a vendor that hangs up', (request) => void request.socket.destroy(), { 'x-should-retry': 'false' }],
      ['a vendor that takes too long', () => {}, { 'x-should-retry': 'false' }],
      ['an answer that cannot be read', saying(['{}'], { headers: {} }), { 'x-should-retry': 'false' }],
    ];
    for (const [what, vendor, headers] of HIDDEN) {
      it(`is the same plain 502 for ${what}, and says still whether to ask again`, async () => {
        const { outcome } = await hop({ vendors: [vendor], relay, isStream: true, timeouts: { headersMs: 60 } });
        const { end } = await outcome();
        assert.ok(end instanceof ApiError);
        assert.deepEqual([end.code, end.status, end.headers], ['upstream_failed', 502, headers]);
        assert.equal(end.message, new ApiError('upstream_failed').message);
        assert.deepEqual([end.param, end.upstreamCode], [undefined, undefined]);
        assert.ok(end.cause instanceof ApiError && end.cause.code.startsWith('upstream_'));
      });
    }

    it('is the same in the middle of a stream', async () => {
      const vendors = [saying([event('a'), 'data: {"error":{"message":"n","code":400}}\n\n'], { pauseMs: 10 })];
      const { outcome } = await hop({ vendors, relay, isStream: true });
      const { answer, end } = await outcome();
      assert.match(answer.text, /^data: .*\n\nevent: error\ndata: \{"error":\{.*"code":"upstream_failed"/);
      assert.ok(!(end instanceof ApiError));
      assert.equal(end.error?.code, 'upstream_failed');
      assert.ok(end.error.cause instanceof ApiError && end.error.cause.code === 'upstream_refused');
    });
  });

  describe('under way when the broker stops', () => {
    const STOPPING = new ApiError('broker_stopping');
    const ends = (live: LiveCalls) => {
      assert.equal(live.size, 1);
      for (const { endNow } of live) endNow(STOPPING);
    };

    for (const [when, begin] of [
      ['while its headers are waited for', () => {}],
      ['before its first byte', (response: ServerResponse) => response.writeHead(200, SSE).flushHeaders()],
      ['before its first whole event', (response: ServerResponse) => response.writeHead(200, SSE).write('data: {')],
      ['in the middle of a refusal', (response: ServerResponse) => response.writeHead(500).write('{')],
    ] as const) {
      it(`is a 503 ${when}, and the vendor is hung up on`, async () => {
        const asked = Promise.withResolvers<ServerResponse>();
        const {
          outcome,
          live,
          asked: requests,
        } = await hop({
          vendors: [
            (_, response) => {
              begin(response);
              asked.resolve(response);
            },
            assert.fail,
          ],
          isStream: true,
          relay: { hideUpstreamErrors: true },
        });
        const ended = outcome();
        const closed = once(await asked.promise, 'close');
        await setTimeout(20);
        ends(live);
        const { answer, end } = await ended;
        assert.deepEqual([answer.status, end], [503, STOPPING]);
        await closed;
        assert.deepEqual([live.size, requests[1]!.length], [0, 0]);
      });
    }

    it('is a 503 while it stands in a queue', async () => {
      const dispatcher = hops.own(new Agent({ connections: 1, pipelining: 1 }));
      const first = Promise.withResolvers<void>();
      const { ask, outcome, calls, live } = await hop({ vendors: [() => first.resolve()], dispatcher });
      const request = ask();
      await first.promise;
      const ended = outcome();
      while (calls.length < 2) await setTimeout(5);
      [...live].at(-1)!.endNow(STOPPING);
      assert.equal((await ended).end, STOPPING);
      request.destroy();
    });

    it('is broken off with an error event after its first byte', async () => {
      const { ask, calls, live } = await hop({
        vendors: [(_, response) => void response.writeHead(200, SSE).write(event('a'))],
        isStream: true,
      });
      const answer = await answerTo(ask());
      const all = read(answer);
      await once(answer, 'data');
      ends(live);
      const { text, isWhole } = await all;
      assert.match(
        text,
        /\n\nevent: error\ndata: \{"error":\{.*"code":"broker_stopping","request_id":"req_1"\}\}\n\n$/,
      );
      assert.equal(isWhole, false);
      const end = await calls[0]!.end;
      assert.ok(!(end instanceof ApiError));
      assert.deepEqual([end.end, end.error, live.size], ['cut', STOPPING, 0]);
    });

    it('is broken off without a word when it is no stream', async () => {
      const { ask, live } = await hop({
        vendors: [(_, response) => void response.writeHead(200, JSON_TYPE).write('{"half":')],
      });
      const answer = await answerTo(ask());
      const all = read(answer);
      await once(answer, 'data');
      ends(live);
      assert.deepEqual([(await all).text, (await all).isWhole], ['{"half":', false]);
    });

    it('is whole when its last words had been said', async () => {
      const { ask, calls, live } = await hop({
        vendors: [(_, response) => void response.writeHead(200, SSE).write(event('a') + DONE)],
        isStream: true,
      });
      const answer = await answerTo(ask());
      const all = read(answer);
      await once(answer, 'data');
      ends(live);
      assert.deepEqual([(await all).text, (await all).isWhole], [event('a') + DONE, true]);
      assert.equal(((await calls[0]!.end) as Relayed).end, 'whole');
    });
  });
});

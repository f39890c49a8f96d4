import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { Agent } from 'undici';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import type { Provider } from '../providers/provider.ts';
import { attempt } from './attempt.ts';
import type { Relayed } from './pump.ts';

type Ended = Relayed | ApiError;
type Answer = { status: number; headers: IncomingMessage['headers']; text: string; isWhole: boolean };
type Options = { timeouts?: Partial<Provider['timeouts']>; agent?: Agent; isStream?: boolean; origin?: string };

const SSE = { 'content-type': 'text/event-stream' };
const event = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
const DONE = 'data: [DONE]\n\n';

describe('an attempt', () => {
  const open: { servers: Server[]; agents: Agent[] } = { servers: [], agents: [] };
  afterEach(async () => {
    for (const server of open.servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
    await Promise.all(open.agents.splice(0).map((agent) => agent.destroy()));
  });

  async function listen(handle: RequestListener): Promise<string> {
    const server = createServer(handle);
    open.servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** One real hop: a caller's socket, the attempt between, and a real vendor behind it. */
  async function hop(vendor: RequestListener, options: Options = {}) {
    const agent = options.agent ?? new Agent();
    open.agents.push(agent);
    const provider: Provider = {
      name: 'vendor',
      models: undefined,
      dispatcher: agent,
      origin: options.origin ?? (await listen(vendor)),
      paths: { chat: '/v1/chat/completions', embeddings: '/v1/embeddings' },
      credential: () => ['authorization', 'Bearer sk-vendor'],
      maxTokensField: 'max_tokens',
      timeouts: { headersMs: 5000, idleMs: 5000, totalMs: 5000, ...options.timeouts },
    };
    const ends: Promise<Ended>[] = [];
    const origin = await listen((request, response) => {
      const end = attempt({
        provider,
        operation: request.url === '/embeddings' ? 'embeddings' : 'chat',
        body: Buffer.from('{"model":"m","messages":[]}'),
        isStream: options.isStream ?? false,
        response,
        answerHeaders: ['x-request-id', 'req_1'],
        requestId: 'req_1',
        overheadMs: 1.26,
      }).catch((error: unknown) => {
        assert.ok(error instanceof ApiError, String(error));
        if (response.headersSent) response.destroy();
        else response.writeHead(error.status, { code: error.code }).end(error.message);
        return error;
      });
      ends.push(end);
    });
    const call = async (path = '/'): Promise<Answer> => {
      const headers = { cookie: 'session=1', 'x-forwarded-for': '192.0.2.1', authorization: 'Bearer caller' };
      const request = httpRequest(origin + path, { agent: false, headers }).end();
      const [answer] = (await once(request, 'response')) as [IncomingMessage];
      const pieces: Buffer[] = [];
      answer.on('data', (piece: Buffer) => pieces.push(piece)).on('error', () => {});
      await new Promise((resolve) => void answer.once('close', resolve));
      const text = Buffer.concat(pieces).toString();
      return { status: answer.statusCode!, headers: answer.headers, text, isWhole: answer.complete };
    };
    const outcome = async (path?: string): Promise<{ answer: Answer; end: Ended }> => {
      const answer = await call(path);
      return { answer, end: await ends.at(-1)! };
    };
    return { call, outcome, origin, ends };
  }

  it('asks with a request of our own, in which nothing of the caller’s headers is left', async () => {
    const seen: { line: string; headers: IncomingMessage['headers']; body: string }[] = [];
    const { call } = await hop((request, response) => {
      request.setEncoding('utf8').on('data', (body: string) => {
        seen.push({ line: `${request.method} ${request.url}`, headers: request.headers, body });
        response.end('{}');
      });
    });
    await call();
    await call('/embeddings');
    const [chat, embeddings] = seen;
    assert.equal(chat?.line, 'POST /v1/chat/completions');
    assert.equal(embeddings?.line, 'POST /v1/embeddings');
    assert.equal(chat.body, '{"model":"m","messages":[]}');
    const { host, connection, ...headers } = chat.headers;
    assert.match(`${host} ${connection}`, /^127\.0\.0\.1:\d+ keep-alive$/);
    assert.deepEqual(headers, {
      'content-type': 'application/json',
      accept: 'application/json',
      'accept-encoding': 'identity',
      authorization: 'Bearer sk-vendor',
      'content-length': '27',
    });
  });

  it('asks for events when the caller asked for a stream', async () => {
    let accept: string | undefined;
    const { call } = await hop(
      (request, response) => {
        accept = request.headers.accept;
        response.writeHead(200, SSE).end(DONE);
      },
      { isStream: true },
    );
    await call();
    assert.equal(accept, 'text/event-stream');
  });

  it('tells the caller how long the broker itself needed', async () => {
    const { call } = await hop((_, response) => void response.end('{}'));
    const { headers } = await call();
    assert.equal(headers['x-sallyport-overhead-ms'], '1.3');
    assert.equal(headers['x-request-id'], 'req_1');
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
      const { outcome } = await hop((_, response) => void response.writeHead(status, headers).end(body));
      const { answer, end } = await outcome();
      assert.ok(end instanceof ApiError);
      assert.deepEqual([end.status, end.code, answer.status], [becomes, code, becomes]);
      assert.equal(end.headers['retry-after'], code === 'upstream_busy' ? '7' : undefined);
      if (code === 'upstream_failed') assert.doesNotMatch(end.message, /sk-vendor|org-1|stack|proxy|pay/);
      if (code === 'upstream_refused') assert.deepEqual([end.param, end.upstreamCode], ['n', 'bad_n']);
    });
  }

  for (const [name, inform] of [
    ['103 Early Hints', (response) => response.writeEarlyHints({ link: '</style.css>; rel=preload' })],
    ['102 Processing', (response) => response.writeProcessing()],
  ] as const satisfies [string, (response: Parameters<RequestListener>[1]) => void][]) {
    it(`reads the answer that follows a ${name}`, async () => {
      const { outcome } = await hop((_, response) => {
        inform(response);
        response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}');
      });
      const { answer, end } = await outcome();
      assert.deepEqual([answer.status, answer.text], [200, '{"a":1}']);
      assert.deepEqual(end, { upstreamStatus: 200, bytes: 7, end: 'whole' });
    });
  }

  it('gives up on a refusal that has no end', async () => {
    const gone = Promise.withResolvers<void>();
    const { outcome } = await hop((_, response) => {
      response.writeHead(400);
      const more = () => {
        while (response.write('x'.repeat(16_384)));
        response.once('drain', more);
      };
      more();
      response.on('close', gone.resolve);
    });
    const { answer } = await outcome();
    assert.equal(answer.status, 502);
    await gone.promise;
  });

  it('passes nothing on that was compressed though we asked for it plain', async () => {
    const { outcome } = await hop(
      (_, response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).end('x'),
    );
    assert.equal((await outcome()).answer.status, 502);
    const { outcome: plain } = await hop(
      (_, response) => void response.writeHead(200, { 'content-encoding': 'identity' }).end('x'),
    );
    assert.equal((await plain()).answer.status, 200);
  });

  it('says that a vendor cannot be reached', async () => {
    const origin = await listen(() => {});
    open.servers.at(-1)!.close();
    const { outcome } = await hop(() => {}, { origin });
    const { end } = await outcome();
    assert.ok(end instanceof ApiError);
    assert.deepEqual([end.code, end.status], ['upstream_unreachable', 502]);
    assert.match(String(end.cause), /ECONNREFUSED/);
  });

  it('says the same of a vendor that hangs up without a word', async () => {
    const { outcome } = await hop((request) => void request.socket.destroy());
    assert.equal((await outcome()).answer.headers['code'], 'upstream_unreachable');
  });

  describe('that takes too long', () => {
    it('for its headers is a 504 that client libraries do not repeat', async () => {
      const { outcome } = await hop(() => {}, { timeouts: { headersMs: 50 } });
      const { end } = await outcome();
      assert.ok(end instanceof ApiError);
      assert.deepEqual([end.code, end.status, end.headers], ['upstream_timeout', 504, { 'x-should-retry': 'false' }]);
    });

    it('altogether is a 504, and the vendor is hung up on', async () => {
      const gone = Promise.withResolvers<void>();
      const { outcome } = await hop((_, response) => void response.on('close', gone.resolve), {
        timeouts: { totalMs: 50 },
      });
      assert.equal((await outcome()).answer.status, 504);
      await gone.promise;
    });

    for (const [which, timeouts] of [
      ['between two words', { idleMs: 50 }],
      ['altogether, in the middle', { totalMs: 80 }],
    ] as const) {
      it(`${which} ends a stream in an error event and a broken connection`, async () => {
        const { outcome } = await hop((_, response) => void response.writeHead(200, SSE).write(event('a')), {
          timeouts,
          isStream: true,
        });
        const { answer, end } = await outcome();
        assert.deepEqual(end, { upstreamStatus: 200, bytes: event('a').length, end: 'cut' });
        assert.equal(answer.isWhole, false);
        assert.match(
          answer.text,
          /event: error\ndata: \{"error":\{.*"code":"upstream_timeout".*"request_id":"req_1"\}\}\n\n$/,
        );
      });
    }

    it('in a queue is a 504, and the connection is still good for the next', async () => {
      const agent = new Agent({ connections: 1, pipelining: 1 });
      const asked: Parameters<RequestListener>[1][] = [];
      const isAsked = Promise.withResolvers<void>();
      const { outcome } = await hop(
        (_, response) => {
          asked.push(response);
          isAsked.resolve();
          if (asked.length > 1) response.end('{}');
        },
        { agent, timeouts: { totalMs: 400 } },
      );
      const first = outcome();
      await isAsked.promise;
      const second = outcome();
      assert.equal((await first).answer.status, 504);
      // Its own time ran while it waited; whether it still got its turn is a matter of milliseconds.
      assert.ok([200, 504].includes((await second).answer.status));
      assert.equal((await outcome()).answer.status, 200);
    });
  });
});

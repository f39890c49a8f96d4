import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  createServer,
  get,
  type ClientRequest,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { Agent, type Dispatcher } from 'undici';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { ScriptedDispatcher } from '../providers/scripted-dispatcher.ts';
import { Pump, type Relayed } from './pump.ts';

const SSE = { 'content-type': 'text/event-stream' };
const JSON_TYPE = { 'content-type': 'application/json' };
const event = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
const DONE = 'data: [DONE]\n\n';
const ERROR = 'event: error\ndata: upstream_cut\n\n';

describe('the pump', () => {
  const servers: Server[] = [];
  const dispatchers: Dispatcher[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
    await Promise.all(dispatchers.splice(0).map((dispatcher) => dispatcher.destroy()));
  });

  async function listen(handle: RequestListener): Promise<string> {
    const server = createServer(handle);
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** A caller's real socket, the pump, and a real vendor behind it. */
  async function between(vendor: RequestListener, dispatcher: Dispatcher = new Agent()) {
    dispatchers.push(dispatcher);
    const upstream = await listen(vendor);
    const passed: { response: ServerResponse; pump: Pump; done: Promise<Relayed | ApiError> }[] = [];
    const origin = await listen((_, response) => {
      const pump = new Pump({
        response,
        answerHeaders: ['x-request-id', 'req_1'],
        streamEnd: '[DONE]',
        writeStreamError: ({ code }) => `event: error\ndata: ${code}\n\n`,
        readRefusal: ({ status }) => new ApiError('upstream_failed', { cause: status }),
        readFailure: (cause, hasBegun) => new ApiError(hasBegun ? 'upstream_cut' : 'upstream_unreachable', { cause }),
      });
      const done = pump.done.catch((error: ApiError) => {
        response.writeHead(error.status).end();
        return error;
      });
      passed.push({ response, pump, done });
      dispatcher.dispatch({ origin: upstream, path: '/', method: 'POST', body: Buffer.from('{}') }, pump);
    });
    return { call: () => get(origin, { agent: false }).on('error', () => {}), passed };
  }

  async function answered(request: ClientRequest): Promise<IncomingMessage> {
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    return answer.on('error', () => {});
  }

  async function readAll(answer: IncomingMessage): Promise<Buffer> {
    const pieces: Buffer[] = [];
    answer.on('data', (piece: Buffer) => pieces.push(piece));
    // A broken answer tells of it twice; the end is what counts here.
    await new Promise((resolve) => void answer.once('close', resolve));
    return Buffer.concat(pieces);
  }

  describe('carries', () => {
    it('an answer byte for byte, whatever the bytes are', async () => {
      const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) & 255));
      const { call, passed } = await between((_, response) => {
        response.writeHead(200, { ...JSON_TYPE, 'content-length': bytes.length }).end(bytes);
      });
      const answer = await answered(call());
      assert.equal(answer.headers['content-length'], String(bytes.length));
      assert.ok((await readAll(answer)).equals(bytes));
      assert.ok(answer.complete);
      assert.deepEqual(await passed[0]!.done, { upstreamStatus: 200, bytes: bytes.length, end: 'whole' });
    });

    it('each word of a stream when it is said, and the headers before the first', async () => {
      const said = Promise.withResolvers<ServerResponse>();
      const { call, passed } = await between((_, response) => {
        response.writeHead(200, SSE).flushHeaders();
        said.resolve(response);
      });
      const answer = await answered(call());
      const vendor = await said.promise;
      let all = '';
      // A word is said only after the one before has arrived: whoever collects would wait here for ever.
      for (const word of [event('a'), event('b'), ': ping\n\n', DONE]) {
        vendor.write(word);
        const [piece] = (await once(answer, 'data')) as [Buffer];
        assert.equal(piece.toString(), word);
        all += word;
      }
      vendor.end();
      answer.resume();
      await once(answer, 'end');
      assert.deepEqual(await passed[0]!.done, { upstreamStatus: 200, bytes: all.length, end: 'whole' });
    });

    it('of the headers only those that are a caller’s business, and our own', async () => {
      const { call } = await between((_, response) => {
        response.writeHead(200, {
          ...JSON_TYPE,
          'set-cookie': ['a=b', 'c=d'],
          server: 'vendor',
          'x-internal': 'secret',
          'openai-organization': 'org-1',
          'openai-processing-ms': '12',
          'openai-version': '2020-10-01',
          'x-request-id': 'theirs',
          'x-sallyport-time': '1',
          'access-control-allow-origin': '*',
          'transfer-encoding': 'chunked',
        });
        response.end('{}');
      });
      const { headers } = await answered(call());
      const { date, ...rest } = headers;
      assert.ok(date);
      assert.deepEqual(rest, {
        ...JSON_TYPE,
        'x-request-id': 'req_1',
        'openai-processing-ms': '12',
        'openai-version': '2020-10-01',
        'transfer-encoding': 'chunked',
        connection: 'close',
      });
    });

    it('a stream so that proxies neither store nor collect it', async () => {
      const { call } = await between((_, response) => void response.writeHead(200, SSE).end(DONE));
      const { headers } = await answered(call());
      assert.equal(headers['cache-control'], 'no-cache, no-transform');
      assert.equal(headers['x-accel-buffering'], 'no');
    });

    // Which of them stands still depends on how full the buffers of the system are when it ends.
    for (const events of [400, 5_000, 20_000, 20_100, 40_000]) {
      it(`a burst of ${events} events that come all at once`, async () => {
        const chunks = Array.from({ length: events }, () => Buffer.from(event('x'.repeat(150))));
        chunks.push(Buffer.from(DONE));
        const { call } = await between(() => {}, new ScriptedDispatcher(() => ({ status: 200, headers: SSE, chunks })));
        const answer = await answered(call());
        const bytes = await Promise.race([readAll(answer), setTimeout(2000, undefined, { ref: false })]);
        assert.ok(bytes !== undefined, 'it stands still');
        assert.equal(bytes.length, Buffer.concat(chunks).length);
      });
    }
  });

  describe('takes no more from the vendor than the caller takes', () => {
    const PIECE = Buffer.alloc(65_536, 'x');
    const PIECES = 1024;

    it('and goes on when the caller does', async () => {
      let sent = 0;
      const { call } = await between((_, response) => {
        response.writeHead(200, JSON_TYPE);
        const more = () => {
          while (sent < PIECES) {
            sent++;
            if (!response.write(PIECE)) return void response.once('drain', more);
          }
          response.end();
        };
        more();
      });
      const answer = await answered(call());
      // How much the buffers of the system hold is not ours to say; they are full when nothing moves any more.
      for (let before = -1; before !== sent; await setTimeout(100)) before = sent;
      assert.ok(sent < PIECES / 2, `${sent} of ${PIECES} pieces were taken for a caller who reads nothing`);
      let received = 0;
      answer.on('data', (piece: Buffer) => (received += piece.length));
      await once(answer, 'close');
      assert.equal(received, PIECES * PIECE.length);
      assert.ok(answer.complete);
    });

    it('and lets go of a caller who reads nothing when time is up', async () => {
      const { call, passed } = await between((_, response) => {
        response.writeHead(200, SSE);
        const more = () => {
          while (response.write(PIECE));
          response.once('drain', more);
        };
        more();
      });
      await answered(call());
      const { pump, response, done } = passed[0]!;
      while (!response.writableNeedDrain) await setTimeout(10);
      pump.abort(new Error('time is up'));
      assert.equal(((await done) as Relayed).end, 'cut');
      const isClosed = response.closed ? true : once(response, 'close').then(() => true);
      assert.ok(await Promise.race([isClosed, setTimeout(1500, false)]), 'its socket is held for ever');
    });
  });

  describe('hangs up on the vendor', () => {
    for (const [when, begin] of [
      ['before the first word', () => {}],
      ['after the headers', (response: ServerResponse) => response.writeHead(200, SSE).flushHeaders()],
      ['in the middle', (response: ServerResponse) => response.writeHead(200, SSE).write(event('a'))],
    ] as const) {
      it(`within 100 ms when the caller does, ${when}`, async () => {
        const asked = Promise.withResolvers<ServerResponse>();
        const { call, passed } = await between((_, response) => {
          begin(response);
          asked.resolve(response);
        });
        const request = call();
        const vendor = await asked.promise;
        if (when !== 'before the first word')
          await once((await answered(request)).resume(), when === 'in the middle' ? 'data' : 'resume');
        const closed = once(vendor, 'close');
        const left = performance.now();
        request.destroy();
        await closed;
        assert.ok(performance.now() - left < 100);
        const end = await passed[0]!.done;
        assert.equal((end as Relayed).end, 'hung up');
      });
    }

    it('before it has asked at all, when the caller left while the request stood in a queue', async () => {
      const asked: ServerResponse[] = [];
      const isAsked = Promise.withResolvers<void>();
      const { call, passed } = await between(
        (_, response) => {
          asked.push(response);
          isAsked.resolve();
          if (asked.length > 1) response.end('x'.repeat(200_000));
        },
        new Agent({ connections: 1, pipelining: 1 }),
      );
      const first = call();
      await isAsked.promise;
      const second = call();
      while (passed.length < 2) await setTimeout(5);
      second.destroy();
      await once(passed[1]!.response, 'close');
      asked[0]!.end('{}');
      assert.equal((await readAll(await answered(first))).toString(), '{}');
      assert.deepEqual(await passed[1]!.done, { upstreamStatus: 0, bytes: 0, end: 'hung up' });
      // A connection that was paused for one who never drains is lost to everybody.
      assert.equal((await readAll(await answered(call()))).length, 200_000);
      assert.equal(asked.length, 2);
    });

    it('and lives through 12 bursts of 32 callers who leave, and answers the next', async () => {
      const { call, passed } = await between((_, response) => {
        response.writeHead(200, SSE);
        response.write(event('x'.repeat(50_000)));
        if (passed.length > 12 * 32) response.end(DONE);
      });
      for (let burst = 0; burst < 12; burst++) {
        const from = passed.length;
        const requests = Array.from({ length: 32 }, call);
        // Some leave at once, some after the first bytes.
        await Promise.all(requests.slice(0, 16).map((request) => once(request, 'response')));
        for (const request of requests) request.destroy();
        const ends = await Promise.all(passed.slice(from).map(({ done }) => done));
        for (const end of ends) assert.equal((end as Relayed).end, 'hung up');
      }
      assert.ok(passed.length >= 12 * 16);
      while (passed.length <= 12 * 32) passed.push(passed[0]!);
      const answer = await answered(call());
      assert.match((await readAll(answer)).toString(), /\[DONE\]\n\n$/);
      assert.ok(answer.complete);
    });
  });

  describe('does not let half an answer pass for the whole', () => {
    const STREAMS: [what: string, pieces: string[], isBroken: boolean, isWhole: boolean][] = [
      ['ends with its last words', [event('a'), DONE], false, true],
      ['ends with its last words, torn in two', [event('a'), 'data: [DO', 'NE]\n\n'], false, true],
      ['ends with its last words, without the empty line', [event('a'), 'data: [DONE]'], false, true],
      ['ends politely without them', [event('a')], false, false],
      ['ends politely with nothing', [], false, false],
      ['ends in the middle of them', [event('a'), 'data: [DO'], false, false],
      ['breaks off', [event('a')], true, false],
      ['ends politely after a model has said them', [event('the last line is [DONE]')], false, false],
      ['ends politely after a model has said them in full', [event('data: [DONE]\n\n')], false, false],
    ];
    for (const [what, pieces, isBroken, isWhole] of STREAMS) {
      it(`when a stream ${what}`, async () => {
        const { call, passed } = await between(async (_, response) => {
          response.writeHead(200, SSE).flushHeaders();
          for (const piece of pieces) {
            await new Promise((resolve) => void response.write(piece, resolve));
            await setTimeout(5);
          }
          if (isBroken) response.destroy();
          else response.end();
        });
        const answer = await answered(call());
        const text = (await readAll(answer)).toString();
        assert.equal(text, pieces.join('') + (isWhole ? '' : ERROR));
        assert.equal(answer.complete, isWhole);
        assert.equal(((await passed[0]!.done) as Relayed).end, isWhole ? 'whole' : 'cut');
      });
    }

    for (const [framing, headers] of [
      ['of a known length', { ...JSON_TYPE, 'content-length': '1000' }],
      ['in chunks', JSON_TYPE],
    ] as const) {
      it(`when an answer ${framing} breaks off: the connection breaks too, and no word is added`, async () => {
        const { call, passed } = await between((_, response) => {
          response.writeHead(200, headers).write('{"half":', () => response.destroy());
        });
        const answer = await answered(call());
        assert.equal((await readAll(answer)).toString(), '{"half":');
        assert.equal(answer.complete, false);
        assert.deepEqual(await passed[0]!.done, { upstreamStatus: 200, bytes: 8, end: 'cut' });
      });
    }

    it('when it is aborted', async () => {
      const { call, passed } = await between((_, response) => void response.writeHead(200, SSE).write(event('a')));
      const answer = await answered(call());
      const all = readAll(answer);
      await once(answer, 'data');
      passed[0]!.pump.abort(new Error('enough'));
      assert.equal((await all).toString(), event('a') + ERROR);
      assert.equal(answer.complete, false);
    });
  });

  it('throws a refusal before anything was written', async () => {
    const { call, passed } = await between((_, response) => void response.writeHead(418, SSE).end('teapot'));
    const answer = await answered(call());
    assert.equal(answer.statusCode, 502);
    const end = await passed[0]!.done;
    assert.ok(end instanceof ApiError);
    assert.equal(end.cause, 418);
  });

  it('leaves no listener behind on the caller’s side', async () => {
    const { call, passed } = await between((_, response) => void response.writeHead(200, SSE).end(DONE));
    await readAll(await answered(call()));
    const { response, done } = passed[0]!;
    await done;
    assert.equal(response.listenerCount('drain'), 0);
  });
});

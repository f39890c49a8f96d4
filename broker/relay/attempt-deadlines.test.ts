import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener, ServerResponse } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { Agent } from 'undici';
import type { Relayed } from './attempt.ts';
import { answerTo, DONE, event, JSON_TYPE, openHops, read, saying, SSE } from './hop.test-support.ts';

const TIMED_OUT = /\n\nevent: error\ndata: \{"error":\{.*"code":"upstream_timeout".*"request_id":"req_1"\}\}\n\n$/;

describe('an attempt that takes too long', () => {
  const hops = openHops();
  const { hop } = hops;
  afterEach(hops.close);

  /** A vendor that behaves like this, and the moment when it was hung up on. */
  function watched(behave: (response: ServerResponse) => unknown): [RequestListener, Promise<void>] {
    const { promise, resolve } = Promise.withResolvers<void>();
    return [(_, response) => void behave(response.on('close', resolve)), promise];
  }

  const announce = (response: ServerResponse) => response.writeHead(200, SSE).flushHeaders();
  const LATE: [what: string, behave: (response: ServerResponse) => unknown, timeouts: object, isStream: boolean][] = [
    ['for its headers', () => {}, { headersMs: 50 }, false],
    ['for its headers, announced by an early hint', (response) => response.writeProcessing(), { headersMs: 50 }, false],
    ['for its first byte', announce, { firstByteMs: 50 }, true],
    ['for its first event', (response) => response.writeHead(200, SSE).write('data: {'), { firstByteMs: 50 }, true],
    ['for the words of a refusal', (response) => response.writeHead(400).write('{'), { firstByteMs: 50 }, false],
    ['altogether, before its headers', () => {}, { totalMs: 50 }, false],
    ['altogether, before its first byte', announce, { totalMs: 50 }, true],
  ];
  for (const [what, behave, timeouts, isStream] of LATE) {
    it(`${what} is a 504 that client libraries do not repeat, and the vendor is hung up on`, async () => {
      const [vendor, gone] = watched(behave);
      const { outcome, asked, live } = await hop({ vendors: [vendor, assert.fail], timeouts, isStream });
      const beganMs = performance.now();
      const { answer, end } = await outcome();
      const tookMs = performance.now() - beganMs;
      assert.ok(end instanceof ApiError);
      assert.deepEqual([end.code, end.status, end.headers], ['upstream_timeout', 504, { 'x-should-retry': 'false' }]);
      assert.match(end.message, /did not answer in 1 s/);
      assert.equal(answer.status, 504);
      assert.ok(tookMs > 48 && tookMs < 1000, `${tookMs} ms`);
      await gone;
      assert.deepEqual([asked[0]!.length, asked[1]!.length, live.size], [1, 0, 0]);
    });
  }

  for (const [which, timeouts, isStream] of [
    ['between two words', { idleMs: 50 }, true],
    ['altogether, in the middle', { totalMs: 80 }, true],
    ['between two pieces of what is no stream', { idleMs: 50 }, false],
  ] as const) {
    it(`${which} is broken off`, async () => {
      const said = isStream ? event('a') : '{"half":';
      const [vendor, gone] = watched((response) => response.writeHead(200, isStream ? SSE : JSON_TYPE).write(said));
      const { outcome, asked } = await hop({ vendors: [vendor, assert.fail], timeouts, isStream });
      const { answer, end } = await outcome();
      await gone;
      assert.ok(!(end instanceof ApiError));
      assert.deepEqual([end.end, end.bytes, end.error?.code], ['cut', said.length, 'upstream_timeout']);
      assert.equal(answer.isWhole, false);
      if (isStream) assert.match(answer.text, TIMED_OUT);
      else assert.equal(answer.text, said);
      assert.equal(asked[1]!.length, 0);
    });
  }

  it('is measured from the last byte, in all that takes its time in many small ones', async () => {
    const words = Array.from({ length: 6 }, (_, i) => event(String(i)));
    const timeouts = { headersMs: 100, firstByteMs: 100, idleMs: 100 };
    const { outcome } = await hop({ vendors: [saying([...words, DONE], { pauseMs: 30 })], timeouts, isStream: true });
    const { answer, end } = await outcome();
    assert.deepEqual([answer.text, (end as Relayed).end], [words.join('') + DONE, 'whole']);
  });

  it('is not when the vendor shows by comments that it is there', async () => {
    const hi = Array.from({ length: 6 }, () => ': hi\n\n');
    const pieces = [...hi, event('a'), ...hi, DONE];
    const { outcome } = await hop({
      vendors: [saying(pieces, { pauseMs: 20 })],
      timeouts: { firstByteMs: 80, idleMs: 80 },
      isStream: true,
    });
    assert.equal((await outcome()).answer.text, event('a') + DONE);
  });

  it('is whole behind its last words, and is not waited for, whether it is silent there or goes on with comments', async () => {
    const chatting = (response: ServerResponse) => {
      const timer = setInterval(() => response.write(': hi\n\n'), 100);
      response.on('close', () => clearInterval(timer));
    };
    const outcomes = [() => {}, chatting].map(async (behave) => {
      const [vendor, gone] = watched((response) => {
        response.writeHead(200, SSE).write(event('a') + DONE);
        behave(response);
      });
      const { outcome } = await hop({ vendors: [vendor], isStream: true });
      const beganMs = performance.now();
      const { answer, end } = await outcome();
      const tookMs = performance.now() - beganMs;
      assert.deepEqual([answer.text, answer.isWhole], [event('a') + DONE, true]);
      assert.equal((end as Relayed).end, 'whole');
      assert.ok(tookMs > 900 && tookMs < 2000, `${tookMs} ms`);
      await gone;
    });
    await Promise.all(outcomes);
  });

  describe('in a queue', () => {
    it('is a 504, and the connection is still good for the next', async () => {
      const dispatcher = hops.own(new Agent({ connections: 1, pipelining: 1 }));
      let asked = 0;
      const isAsked = Promise.withResolvers<void>();
      const { outcome } = await hop({
        vendors: [
          (_, response) => {
            isAsked.resolve();
            if (++asked > 1) response.writeHead(200, JSON_TYPE).end('{}');
          },
        ],
        dispatcher,
        timeouts: { totalMs: 300 },
      });
      const first = outcome();
      await isAsked.promise;
      const second = outcome();
      assert.equal((await first).answer.status, 504);
      // Its own time ran while it waited; whether it still got its turn is a matter of milliseconds.
      assert.ok([200, 504].includes((await second).answer.status));
      assert.equal((await outcome()).answer.status, 200);
    });

    it('is a 504 before its turn comes, and is then never sent', async () => {
      const dispatcher = hops.own(new Agent({ connections: 1, pipelining: 1 }));
      const asked: ServerResponse[] = [];
      const { ask, call, calls, outcome } = await hop({
        vendors: [(_, response) => void asked.push(response)],
        dispatcher,
        timeouts: { headersMs: 60 },
      });
      // Without a stream the first is answered in time, and then goes on for long.
      const first = answerTo(ask());
      while (asked.length === 0) await setTimeout(5);
      asked[0]!.writeHead(200, JSON_TYPE).write('{"a":');
      await first;
      const { end } = await outcome();
      assert.ok(end instanceof ApiError && end.code === 'upstream_timeout');
      asked[0]!.end('1}');
      await calls[0]!.end;
      const third = call();
      while (asked.length === 1) await setTimeout(5);
      asked[1]!.writeHead(200, JSON_TYPE).end('{}');
      assert.equal((await third).text, '{}');
      assert.equal(asked.length, 2);
    });
  });

  describe('with a caller who reads slowly', () => {
    const PIECE = event('x'.repeat(65_536));
    /** Says more than all buffers on the way hold, and ends well. */
    const atLength: RequestListener = async (_, response) => {
      response.writeHead(200, SSE);
      for (let i = 0; i < 250; i++) if (!response.write(PIECE)) await once(response, 'drain');
      response.end(DONE);
    };

    it('takes no silence for the vendor’s while nothing is read from it', async () => {
      const { ask, calls } = await hop({ vendors: [atLength], timeouts: { idleMs: 100 }, isStream: true });
      const answer = await answerTo(ask());
      await setTimeout(300);
      assert.ok(calls[0]!.response.writableNeedDrain);
      const { bytes, isWhole } = await read(answer);
      assert.deepEqual([bytes.length, isWhole], [250 * PIECE.length + DONE.length, true]);
      assert.equal(((await calls[0]!.end) as Relayed).end, 'whole');
    });

    it('does, once the caller reads again', async () => {
      const { ask, calls } = await hop({
        vendors: [
          (_, response) => {
            response.writeHead(200, SSE);
            for (let i = 0; i < 250; i++) response.write(PIECE);
          },
        ],
        timeouts: { idleMs: 100 },
        isStream: true,
      });
      const answer = await answerTo(ask());
      await setTimeout(300);
      assert.match((await read(answer)).text.slice(-400), TIMED_OUT);
      assert.equal(((await calls[0]!.end) as Relayed).end, 'cut');
    });

    it('gives up one who takes nothing, and hangs up on the vendor', async () => {
      const [vendor, gone] = watched((response) => void atLength(response.req, response));
      const { ask, calls, live } = await hop({ vendors: [vendor], relay: { slowReaderMs: 100 }, isStream: true });
      const answer = await answerTo(ask());
      const end = await calls[0]!.end;
      await gone;
      assert.ok(!(end instanceof ApiError));
      assert.deepEqual([end.end, end.error, live.size], ['too slow', undefined, 0]);
      assert.equal((await read(answer)).isWhole, false);
    });

    it('keeps one who takes a little from time to time', async () => {
      const { ask, calls } = await hop({ vendors: [atLength], relay: { slowReaderMs: 200 }, isStream: true });
      const answer = await answerTo(ask());
      // In all longer than a silence may be, but never so long at once.
      for (let i = 0; i < 12; i++) {
        await setTimeout(40);
        for (let taken = 0; taken < 1024 ** 2;) {
          const piece = answer.read() as Buffer | null;
          if (piece === null) await once(answer, 'readable');
          else taken += piece.length;
        }
      }
      assert.equal((await read(answer)).isWhole, true);
      assert.equal(((await calls[0]!.end) as Relayed).end, 'whole');
    });

    it('gives up one who does not take the last words, however few are left', async () => {
      const vendor = Promise.withResolvers<ServerResponse>();
      const { ask, calls, live } = await hop({
        vendors: [(_, response) => vendor.resolve(response.writeHead(200, SSE) as ServerResponse)],
        relay: { slowReaderMs: 150 },
        isStream: true,
      });
      const answering = answerTo(ask());
      const said = await vendor.promise;
      said.write(event('a'));
      await answering;
      const { response, end } = calls[0]!;
      // Until something stays behind, but less than what would count as full.
      for (let waited = 0; waited < 5; await setTimeout(5)) {
        waited = response.writableLength > 0 ? waited + 1 : 0;
        if (waited === 0) said.write(event('x'.repeat(50_000)));
      }
      assert.equal(response.writableNeedDrain, false);
      said.end(DONE);
      const relayed = (await Promise.race([end, setTimeout(2000)])) as Relayed | undefined;
      assert.equal(relayed?.end, 'too slow');
      assert.equal(live.size, 0);
    });

    it('breaks off for one who takes nothing when the time is up altogether', async () => {
      const { ask, calls } = await hop({ vendors: [atLength], timeouts: { totalMs: 300 }, isStream: true });
      const answer = await answerTo(ask());
      const end = (await calls[0]!.end) as Relayed;
      assert.deepEqual([end.end, end.error?.code], ['cut', 'upstream_timeout']);
      assert.equal((await read(answer)).isWhole, false);
    });
  });
});

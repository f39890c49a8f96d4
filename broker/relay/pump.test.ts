import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener, ServerResponse } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { ScriptedDispatcher } from '../providers/scripted-dispatcher.ts';
import { answerTo, DONE, event, JSON_TYPE, openHops, read, saying, SSE } from './hop.test-support.ts';

describe('the pump', () => {
  const hops = openHops();
  const { between } = hops;
  afterEach(hops.close);

  describe('carries', () => {
    it('an answer byte for byte, whatever the bytes are', async () => {
      const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) & 255));
      const headers = { 'content-type': 'audio/mpeg', 'content-length': bytes.length };
      const { outcome, passed } = await between(saying([bytes], { headers }), { isStream: false });
      const answer = await outcome();
      assert.equal(answer.headers['content-length'], String(bytes.length));
      assert.ok(answer.bytes.equals(bytes));
      assert.ok(answer.isWhole);
      const { pump, done } = passed[0]!;
      assert.deepEqual(await done, { end: 'whole', kept: undefined });
      assert.deepEqual([pump.status, pump.bytes], [200, bytes.length]);
    });

    it('each word of a stream when it is said', async () => {
      const said = Promise.withResolvers<ServerResponse>();
      const { call, passed } = await between((_, response) => {
        response.writeHead(200, SSE).flushHeaders();
        said.resolve(response);
      });
      const answering = answerTo(call());
      const vendor = await said.promise;
      let all = '';
      // A word is said only after the one before has arrived: whoever collects would wait here for ever.
      for (const word of [event('a'), event('b'), DONE]) {
        vendor.write(word);
        const [piece] = (await once(await answering, 'data')) as [Buffer];
        assert.equal(piece.toString(), word);
        all += word;
      }
      vendor.end();
      (await answering).resume();
      await once(await answering, 'end');
      const { pump, done } = passed[0]!;
      assert.equal((await done).end, 'whole');
      assert.deepEqual([pump.status, pump.bytes], [200, all.length]);
    });

    it('of the headers only those that are a caller’s business, and our own', async () => {
      const headers = {
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
      };
      const { outcome } = await between(saying(['{}'], { headers }), { isStream: false });
      const { date, ...rest } = (await outcome()).headers;
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

    // Which of them stands still depends on how full the buffers of the system are when it ends.
    for (const events of [400, 5_000, 20_000, 20_100, 40_000]) {
      it(`a burst of ${events} events that come all at once`, async () => {
        const chunks = Array.from({ length: events }, () => Buffer.from(event('x'.repeat(150))));
        chunks.push(Buffer.from(DONE));
        const dispatcher = new ScriptedDispatcher(() => ({ status: 200, headers: SSE, chunks }));
        const { outcome } = await between(() => {}, { dispatcher });
        const answer = await Promise.race([outcome(), setTimeout(2000, undefined, { ref: false })]);
        assert.ok(answer !== undefined, 'it stands still');
        assert.equal(answer.bytes.length, Buffer.concat(chunks).length);
      });
    }

    it('no event by halves, and none that a vendor writes in its own way but in the plain one', async () => {
      const pieces = [': hi\r\n\r\nda', 'ta:{"a":', '1}\r\n', '\r\ndata: {"b"', ':2}\n\ndata: [DO', 'NE]\n\n'];
      const { call } = await between(saying(pieces, { pauseMs: 10 }));
      const answer = await answerTo(call());
      const seen: string[] = [];
      for await (const piece of answer) seen.push(String(piece));
      assert.deepEqual(seen, ['data: {"a":1}\n\n', 'data: {"b":2}\n\n', DONE]);
    });

    it('an answer that has no words', async () => {
      const { outcome } = await between(saying([], { headers: {}, status: 204 }), { isStream: false });
      const { status, text, isWhole } = await outcome();
      assert.deepEqual([status, text, isWhole], [204, '', true]);
    });
  });

  describe('begins nothing', () => {
    for (const [what, pieces] of [
      ['that was only announced', []],
      ['of which there are only comments', [': hi\n\n', ':\n\n', '\n\n']],
      ['of which there is half an event', ['data: {"a":1}\n']],
    ] as const) {
      it(`${what}`, async () => {
        const { call, passed } = await between((_, response) => {
          response.writeHead(200, SSE).flushHeaders();
          for (const piece of pieces) response.write(piece);
        });
        const request = call();
        while (passed[0]?.pump.phase !== 'announced') await setTimeout(5);
        await setTimeout(30);
        assert.equal(passed[0].reply.hasBegun, false);
        assert.equal(passed[0].pump.bytes, 0);
        request.destroy();
      });
    }
  });

  it('tells how far the vendor has come, and since when', async () => {
    const { call, passed } = await between(
      saying([event('a'), event('b'), `${event('c')}${DONE}`, ': still here\n\n'], { pauseMs: 30 }),
    );
    const beganMs = performance.now();
    const answer = await answerTo(call());
    const { pump, phases, done } = passed[0]!;
    const sinceMs = pump.sinceMs;
    assert.ok(sinceMs >= beganMs);
    await once(answer, 'data');
    await once(answer, 'data');
    assert.ok(pump.sinceMs >= sinceMs + 20, 'each word counts from anew');
    assert.equal(pump.phase, 'answering');
    await once(answer, 'data');
    await setTimeout(1);
    assert.equal(pump.phase, 'ended');
    await done;
    assert.deepEqual(phases, ['announced', 'answering', 'ended']);
  });

  describe('takes no more from the vendor than the caller takes', () => {
    const PIECE = Buffer.alloc(65_536, 'x');
    const PIECES = 1024;

    it('and goes on when the caller does', async () => {
      let sent = 0;
      const { call } = await between(
        (_, response) => {
          response.writeHead(200, { 'content-type': 'audio/mpeg' });
          const more = () => {
            while (sent < PIECES) {
              sent++;
              if (!response.write(PIECE)) return void response.once('drain', more);
            }
            response.end();
          };
          more();
        },
        { isStream: false },
      );
      const answer = await answerTo(call());
      // How much the buffers of the system hold is not ours to say; they are full when nothing moves any more.
      for (let before = -1; before !== sent; await setTimeout(100)) before = sent;
      assert.ok(sent < PIECES / 2, `${sent} of ${PIECES} pieces were taken for a caller who reads nothing`);
      const { bytes, isWhole } = await read(answer);
      assert.equal(bytes.length, PIECES * PIECE.length);
      assert.ok(isWhole);
    });

    it('and lets go of a caller who reads nothing when time is up', async () => {
      const { call, passed } = await between((_, response) => {
        response.writeHead(200, SSE);
        const more = () => {
          while (response.write(event('x'.repeat(65_536))));
          response.once('drain', more);
        };
        more();
      });
      await answerTo(call());
      const { pump, response, done } = passed[0]!;
      while (!response.writableNeedDrain) await setTimeout(10);
      assert.ok(pump.isPaused);
      pump.abort(new Error('time is up'));
      assert.equal((await done).end, 'failed');
      const isClosed = response.closed ? true : once(response, 'close').then(() => true);
      assert.ok(await Promise.race([isClosed, setTimeout(1500, false)]), 'its socket is held for ever');
    });
  });

  describe('refuses an answer that nobody could read:', () => {
    const ANSWERS: [what: string, isStream: boolean, headers: object, isRefused: boolean][] = [
      ['compressed', false, { ...JSON_TYPE, 'content-encoding': 'gzip' }, true],
      ['a compressed stream', true, { ...SSE, 'content-encoding': 'br' }, true],
      ['said not to be compressed', false, { ...JSON_TYPE, 'content-encoding': 'identity' }, false],
      ['JSON instead of a stream', true, JSON_TYPE, true],
      ['an unknown type instead of a stream', true, {}, true],
      ['a stream instead of JSON', false, SSE, true],
      ['an unknown type instead of JSON', false, {}, false],
      ['a stream in capitals', true, { 'content-type': 'Text/Event-Stream;charset=utf-8' }, false],
    ];
    for (const [what, isStream, headers, isRefused] of ANSWERS) {
      it(`${what}: ${isRefused ? 'yes' : 'no'}`, async () => {
        const gone = Promise.withResolvers<void>();
        const vendor: RequestListener = (_, response) => {
          response.on('close', gone.resolve);
          response.writeHead(200, { ...headers });
          if (isRefused) response.write(isStream ? event('a') : '{}');
          else response.end(isStream ? DONE : '{}');
        };
        const { outcome, passed } = await between(vendor, { isStream });
        const { status } = await outcome();
        const end = await passed[0]!.done;
        await gone.promise;
        assert.equal(status, isRefused ? 502 : 200);
        if (!isRefused) return;
        assert.ok(end.end === 'failed' && end.error instanceof ApiError);
        // It has been paid for.
        assert.deepEqual([end.error.code, end.error.headers], ['upstream_garbled', { 'x-should-retry': 'false' }]);
      });
    }
  });

  it('fails with a refusal before anything was written', async () => {
    const { outcome, passed } = await between(saying(['teapot'], { status: 418 }));
    assert.equal((await outcome()).status, 502);
    const end = await passed[0]!.done;
    assert.ok(end.end === 'failed' && end.error instanceof ApiError);
    assert.match(String(end.error.cause), /upstream answered 418/);
    assert.deepEqual([passed[0]!.pump.status, passed[0]!.pump.bytes], [418, 0]);
    assert.equal(passed[0]!.pump.usage(), undefined);
  });

  it('leaves no listener behind on the caller’s side', async () => {
    const { outcome, passed } = await between(saying([DONE]));
    await outcome();
    const { response, reply, done } = passed[0]!;
    await Promise.all([done, reply.closed]);
    assert.equal(response.listenerCount('drain'), 0);
  });
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { answerTo, event, JSON_TYPE, openHops, reach, read, SSE } from './hop.test-support.ts';
import { Reply, type Head } from './reply.ts';

const flat = (headers: object) => Object.entries(headers).flat() as string[];
const STREAM: Head = { status: 200, headers: flat(SSE), isStream: true };
const WHOLE: Head = { status: 201, headers: flat(JSON_TYPE), isStream: false };
const CUT = new ApiError('upstream_cut');
const PING = ': ping\n\n';

describe('a reply', () => {
  const hops = openHops();
  afterEach(hops.close);

  /** A reply on a real socket, what it told, and a clock that stands until it is moved. */
  async function open() {
    const told: string[] = [];
    const clock = { ms: 1000 };
    const opened = Promise.withResolvers<{ reply: Reply; response: ServerResponse }>();
    const origin = await hops.listen((_, response) => {
      const reply = new Reply({
        response,
        answerHeaders: ['x-request-id', 'req_1'],
        writeStreamError: ({ code }) => `event: error\ndata: ${code}\n\n`,
        elapsedMs: () => clock.ms,
        onFull: () => void told.push('full'),
        onDrained: () => void told.push('drained'),
        onClosed: () => void told.push('closed'),
      });
      opened.resolve({ reply, response });
    });
    const request = reach(origin);
    const answer = answerTo(request);
    return { request, answer, told, clock, ...(await opened.promise) };
  }

  /** Writes until the caller's socket, and everything before it, is full and stays so. */
  async function fill({ reply, response }: { reply: Reply; response: ServerResponse }) {
    for (let isFull = false; !isFull; await setTimeout(20)) {
      isFull = response.writableNeedDrain;
      while (!response.writableNeedDrain) reply.write(Buffer.alloc(1024 ** 2, ':'));
    }
  }

  it('begins with what is said of every answer, and with what the provider said of this one', async () => {
    const { answer, reply } = await open();
    assert.equal(reply.hasBegun, false);
    reply.begin(WHOLE);
    assert.equal(reply.hasBegun, true);
    reply.end();
    const { status, headers, isWhole } = await read(await answer);
    const { date, ...rest } = headers;
    assert.ok(date);
    assert.deepEqual(rest, {
      'x-request-id': 'req_1',
      ...JSON_TYPE,
      connection: 'close',
      'transfer-encoding': 'chunked',
    });
    assert.deepEqual([status, isWhole], [201, true]);
  });

  it('tells proxies neither to store nor to collect a stream', async () => {
    const { answer, reply } = await open();
    reply.begin(STREAM);
    reply.end();
    const { headers } = await read(await answer);
    assert.equal(headers['cache-control'], 'no-cache, no-transform');
    assert.equal(headers['x-accel-buffering'], 'no');
  });

  it('sends what was written in one turn together, and before the next', async () => {
    const { answer, reply, response } = await open();
    const writes: string[] = [];
    const write = response.write.bind(response) as (bytes: Buffer) => boolean;
    response.write = ((bytes: Buffer) => (writes.push(bytes.toString()), write(bytes))) as typeof response.write;
    reply.begin(STREAM);
    for (const word of ['a', 'b']) reply.write(Buffer.from(word));
    await setImmediate();
    reply.write(Buffer.from('c'));
    await setImmediate();
    reply.write(Buffer.from('d'));
    reply.end();
    assert.equal((await read(await answer)).text, 'abcd');
    assert.deepEqual(writes, ['ab', 'c', 'd']);
  });

  it('collects no more than 64 KiB in a turn before it looks whether the socket is full', async () => {
    const { reply, response, told } = await open();
    reply.begin(STREAM);
    for (let i = 0; i < 32; i++) reply.write(Buffer.alloc(4096));
    assert.ok(response.writableLength >= 65_536);
    assert.deepEqual(told, ['full']);
  });

  it('knows whether all was said, and taken', async () => {
    const { answer, reply, told } = await open();
    reply.begin(WHOLE);
    reply.write(Buffer.from('{}'));
    reply.end();
    assert.equal(reply.isDelivered, false);
    await reply.closed;
    assert.equal(reply.isDelivered, true);
    assert.equal((await read(await answer)).text, '{}');
    assert.equal(told.at(-1), 'closed');
  });

  describe('pings', () => {
    it('begin a stream, whose own beginning then is no other', async () => {
      const { answer, reply } = await open();
      reply.ping();
      assert.equal(reply.hasBegun, true);
      reply.begin({ status: 299, headers: ['x-late', '1'], isStream: true });
      reply.write(Buffer.from(event('a')));
      reply.end();
      const { status, headers, text } = await read(await answer);
      assert.deepEqual([status, headers['content-type'], headers['x-late']], [200, SSE['content-type'], undefined]);
      assert.equal(headers['x-accel-buffering'], 'no');
      assert.equal(headers['x-request-id'], 'req_1');
      assert.equal(text, PING + event('a'));
    });

    it('stand behind what was written before them', async () => {
      const { answer, reply } = await open();
      reply.begin(STREAM);
      reply.write(Buffer.from(event('a')));
      reply.ping();
      reply.write(Buffer.from(event('b')));
      reply.end();
      assert.equal((await read(await answer)).text, event('a') + PING + event('b'));
    });

    it('break a silence as words do', async () => {
      const { reply, clock } = await open();
      assert.equal(reply.spokeMs, 1000);
      clock.ms = 1100;
      reply.ping();
      assert.equal(reply.spokeMs, 1100);
      clock.ms = 1200;
      reply.write(Buffer.from(event('a')));
      await setImmediate();
      assert.equal(reply.spokeMs, 1200);
    });

    it('are nothing behind the end', async () => {
      const { answer, reply } = await open();
      reply.begin(STREAM);
      reply.end();
      reply.ping();
      assert.equal((await read(await answer)).text, '');
    });

    it('are nothing behind an answer that was broken off', async () => {
      const { answer, reply } = await open();
      reply.begin(STREAM);
      reply.breakOff(CUT);
      reply.ping();
      assert.equal((await read(await answer)).text, 'event: error\ndata: upstream_cut\n\n');
    });

    it('are nothing to a caller who takes nothing, or is gone', async () => {
      const opened = await open();
      const { request, reply, response } = opened;
      reply.begin(STREAM);
      await fill(opened);
      const waiting = response.writableLength;
      reply.ping();
      assert.equal(response.writableLength, waiting);
      request.destroy();
      await reply.closed;
      reply.ping();
    });
  });

  describe('to a caller who does not read', () => {
    it('says when the socket is full, and since when; and when there is room again', async () => {
      const opened = await open();
      const { answer, reply, told, clock } = opened;
      reply.begin(STREAM);
      assert.equal(reply.fullSinceMs, undefined);
      await fill(opened);
      // The system takes some of it; each time there is room again.
      told.splice(0, told.length - 1);
      assert.deepEqual([told, reply.fullSinceMs], [['full'], 1000]);
      clock.ms = 2000;
      reply.write(Buffer.alloc(65_536, ':'));
      assert.deepEqual([told, reply.fullSinceMs], [['full'], 1000]);
      (await answer).resume();
      while (told.length < 2) await setTimeout(5);
      assert.deepEqual([told, reply.fullSinceMs], [['full', 'drained'], undefined]);
    });

    it('starts to wait anew with the last words, few as they may be', async () => {
      for (const finish of [(reply: Reply) => reply.end(), (reply: Reply) => reply.breakOff(CUT)]) {
        const { reply, told, clock } = await open();
        reply.begin(STREAM);
        reply.write(Buffer.from(event('a')));
        clock.ms = 2000;
        finish(reply);
        assert.deepEqual([told, reply.fullSinceMs], [['full'], 2000]);
      }
    });

    it('breaks off without a word, which would not be read either', async () => {
      const opened = await open();
      const { answer, reply } = opened;
      reply.begin(STREAM);
      await fill(opened);
      reply.breakOff(CUT);
      assert.ok(reply.isGone);
      await reply.closed;
      const { text, isWhole } = await read(await answer);
      assert.equal(isWhole, false);
      assert.doesNotMatch(text, /error/);
    });
  });

  describe('that breaks off', () => {
    it('ends a stream in an error event behind the last words, and has no proper end', async () => {
      const { answer, reply } = await open();
      reply.begin(STREAM);
      reply.write(Buffer.from(event('a')));
      reply.breakOff(CUT);
      const { text, isWhole } = await read(await answer);
      assert.equal(text, `${event('a')}event: error\ndata: upstream_cut\n\n`);
      assert.equal(isWhole, false);
      await reply.closed;
      assert.equal(reply.isDelivered, false);
    });

    it('says the same where nothing but a ping was said', async () => {
      const { answer, reply } = await open();
      reply.ping();
      reply.breakOff(CUT);
      const { status, text, isWhole } = await read(await answer);
      assert.deepEqual([status, text, isWhole], [200, `${PING}event: error\ndata: upstream_cut\n\n`, false]);
    });

    it('adds no word to what is no stream, and sends what was written before', async () => {
      const { answer, reply } = await open();
      reply.begin(WHOLE);
      reply.write(Buffer.from('{"half":'));
      reply.breakOff(CUT);
      const { text, isWhole } = await read(await answer);
      assert.deepEqual([text, isWhole], ['{"half":', false]);
    });
  });

  describe('to a caller who leaves', () => {
    it('is gone, says so once, and takes whatever still comes', async () => {
      const { request, answer, reply, response, told } = await open();
      reply.begin(STREAM);
      reply.write(Buffer.from(event('a')));
      await answer;
      assert.equal(reply.isGone, false);
      request.destroy();
      await reply.closed;
      assert.deepEqual([reply.isGone, reply.isDelivered, told], [true, false, ['closed']]);
      reply.write(Buffer.from(event('b')));
      reply.write(Buffer.alloc(100_000));
      reply.ping();
      reply.breakOff(CUT);
      await setImmediate();
      assert.equal(response.listenerCount('drain'), 0);
    });

    it('was gone from the beginning, when they left before', async () => {
      const { request, response } = await open();
      request.destroy();
      await once(response, 'close');
      const late = new Reply({
        response,
        answerHeaders: [],
        writeStreamError: () => '',
        elapsedMs: () => 0,
        onFull: assert.fail,
        onDrained: assert.fail,
        onClosed: assert.fail,
      });
      assert.ok(late.isGone);
      await late.closed;
    });

    it('ends for one who asked a second thing before the first was answered, too', async () => {
      const replies: Reply[] = [];
      const origin = await hops.listen((_, response) => {
        const settings = { response, answerHeaders: [], writeStreamError: () => '', elapsedMs: () => 0 };
        const reply = new Reply({ ...settings, onFull: () => {}, onDrained: () => {}, onClosed: () => {} });
        reply.ping();
        replies.push(reply);
      });
      const socket = connect(Number(new URL(origin).port), '127.0.0.1');
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(2));
      while (replies.length < 2) await setTimeout(5);
      socket.destroy();
      await Promise.all(replies.map(({ closed }) => closed));
    });
  });

  it('leaves no listener behind', async () => {
    const { answer, reply, response } = await open();
    const before = response.listenerCount('close') - 1;
    reply.begin(STREAM);
    reply.end();
    await read(await answer);
    await reply.closed;
    assert.deepEqual([response.listenerCount('drain'), response.listenerCount('close')], [0, before]);
  });
});

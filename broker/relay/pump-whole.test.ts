import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { SseError } from '../dialects/sse.ts';
import { answerTo, DONE, event, JSON_TYPE, openHops, read, saying, SSE } from './hop.test-support.ts';
import { Lingering } from './pump.ts';

const ERROR = 'event: error\ndata: upstream_cut\n\n';

describe('the pump does not let half an answer pass for the whole', () => {
  const hops = openHops();
  const { between } = hops;
  afterEach(hops.close);

  const STREAMS: [what: string, pieces: string[], isBroken: boolean, isWhole: boolean, passed?: string][] = [
    ['ends with its last words', [event('a'), DONE], false, true],
    ['ends with its last words, torn in two', [event('a'), 'data: [DO', 'NE]\n\n'], false, true],
    ['ends with its last words, without the empty line', [event('a'), 'data: [DONE]'], false, true, event('a') + DONE],
    ['breaks off behind its last words', [event('a'), DONE], true, true],
    ['goes on behind its last words', [event('a'), DONE, event('b')], false, true, event('a') + DONE],
    ['goes on in the same breath', [event('a') + DONE + event('b')], false, true, event('a') + DONE],
    ['talks nonsense behind its last words', [event('a'), DONE, 'nonsense\n\n'], false, true, event('a') + DONE],
    ['talks nonsense in the same breath', [`${event('a')}${DONE}nonsense\n\n`], false, true, event('a') + DONE],
    ['ends politely without them', [event('a')], false, false],
    ['ends in the middle of them', [event('a'), 'data: [DO'], false, false, event('a')],
    ['ends in the middle of an event', [event('a'), event('b').slice(0, -5)], false, false, event('a')],
    ['ends in the middle of a name', [event('a'), 'dat'], false, false, event('a')],
    ['ends one line too early', [event('a'), event('b').slice(0, -1)], false, false, event('a')],
    ['breaks off', [event('a')], true, false],
    ['ends politely after a model has said them', [event('the last line is [DONE]')], false, false],
    ['ends politely after a model has said them in full', [event('data: [DONE]\n\n')], false, false],
    ['says what cannot be read', [event('a'), 'dbta: {}\n\n', DONE], false, false, event('a')],
    ['says it in the same breath', [`${event('a')}dbta: {}\n\n${DONE}`], false, false, event('a')],
    ['puts an error into it', [event('a'), 'data: {"error":{"message":"no"}}\n\n', DONE], false, false, event('a')],
    ['puts an error into the same breath', [`${event('a')}data: {"error":{}}\n\n${DONE}`], false, false, event('a')],
  ];
  for (const [what, pieces, isBroken, isWhole, passed = pieces.join('')] of STREAMS) {
    it(`when a stream ${what}`, async () => {
      const vendor: RequestListener = async (_, response) => {
        response.writeHead(200, SSE).flushHeaders();
        for (const piece of pieces) {
          await new Promise((resolve) => void response.write(piece, resolve));
          await setTimeout(5);
        }
        if (isBroken) response.destroy();
        else response.end();
      };
      const { outcome, passed: calls } = await between(vendor);
      const answer = await outcome();
      assert.equal(answer.text, passed + (isWhole ? '' : ERROR));
      assert.equal(answer.isWhole, isWhole);
      assert.equal((await calls[0]!.done).end, isWhole ? 'whole' : 'failed');
    });
  }

  for (const [what, pieces] of [
    ['nothing', []],
    ['comments', [': hi\n\n']],
    ['half of the last words', ['data: [DO']],
  ] as const) {
    it(`when a stream ends politely with ${what}: it has not begun, and the status is still ours`, async () => {
      const { outcome, passed } = await between(saying(pieces, { pauseMs: 5 }));
      assert.equal((await outcome()).status, 502);
      const end = await passed[0]!.done;
      assert.ok(end.end === 'failed' && end.hasConnected);
      // Not garbled: where in an event a connection ends is chance.
      assert.match(String(end.error), /ended politely/);
    });
  }

  it('when it is garbled by a single byte, whatever else came with it', async () => {
    const bytes = Buffer.from(event('a') + event('b') + DONE);
    bytes[event('a').length + 'data: {"choices'.length] = 0xff;
    const { outcome, passed } = await between(saying([bytes]));
    const answer = await outcome();
    assert.deepEqual([answer.text, answer.isWhole], [event('a') + ERROR, false]);
    const end = await passed[0]!.done;
    assert.ok(end.end === 'failed' && end.error instanceof SseError);
  });

  for (const [framing, headers] of [
    ['of a known length', { ...JSON_TYPE, 'content-length': '1000' }],
    ['in chunks', JSON_TYPE],
  ] as const) {
    it(`when an answer ${framing} breaks off: the connection breaks too, and no word is added`, async () => {
      const vendor: RequestListener = (_, response) =>
        void response.writeHead(200, headers).write('{"half":', () => response.destroy());
      const { outcome, passed } = await between(vendor, { isStream: false });
      const answer = await outcome();
      assert.deepEqual([answer.text, answer.isWhole], ['{"half":', false]);
      assert.equal((await passed[0]!.done).end, 'failed');
      assert.equal(passed[0]!.pump.bytes, 8);
    });
  }

  // Without a length the end of the connection is the end of the answer.
  const ENDLESS: [what: string, pieces: (string | Buffer)[], isWhole: boolean, type?: string][] = [
    ['is an object', ['{"a":1}'], true],
    ['comes in pieces', ['{"a"', ':1', '}'], true],
    ['ends in a line end', ['{"a":1}\n'], true],
    ['ends in a line end that comes by itself', ['{"a":1}', '\n'], true],
    ['ends in many spaces', ['{"a":1}', ' '.repeat(40), '\r\n'], true],
    ['is large', ['{"a":"', 'x'.repeat(100_000), '"}'], true],
    ['is no JSON', ['a word'], true, 'text/plain'],
    ['is half an object', ['{"a":1'], false],
    ['is half a text', ['{"a":"}', ' b'], false],
    ['is half an object that ends in a line end', ['{"a":', '\n'], false],
    ['is nothing', [], false],
  ];
  for (const [what, pieces, isWhole, type = 'application/json; charset=utf-8'] of ENDLESS) {
    it(`when an answer without a length ${what}: it is ${isWhole ? '' : 'not '}whole`, async () => {
      const vendor: RequestListener = async ({ socket }) => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nConnection: close\r\n\r\n`);
        for (const piece of pieces) {
          socket.write(piece);
          await setTimeout(10);
        }
        socket.end();
      };
      const { outcome, passed } = await between(vendor, { isStream: false });
      const answer = await outcome();
      assert.equal((await passed[0]!.done).end, isWhole ? 'whole' : 'failed');
      if (pieces.length > 0) assert.deepEqual([answer.text, answer.isWhole], [pieces.join(''), isWhole]);
    });
  }

  it('when it is aborted', async () => {
    const { call, passed } = await between((_, response) => void response.writeHead(200, SSE).write(event('a')));
    const answer = await answerTo(call());
    const all = read(answer);
    await once(answer, 'data');
    passed[0]!.pump.abort(new Error('enough'));
    assert.deepEqual([(await all).text, (await all).isWhole], [event('a') + ERROR, false]);
  });

  it('but takes for whole what was complete when it is given up for lingering', async () => {
    const { call, passed } = await between((_, response) => void response.writeHead(200, SSE).write(event('a') + DONE));
    const answer = await answerTo(call());
    const all = read(answer);
    await once(answer, 'data');
    passed[0]!.pump.abort(new Lingering());
    assert.deepEqual([(await all).text, (await all).isWhole], [event('a') + DONE, true]);
  });
});

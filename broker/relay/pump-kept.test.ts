import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { DONE, event, JSON_TYPE, openHops, saying } from './hop.test-support.ts';

const USAGE = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 };
const KNOWN = { inputTokens: 7, outputTokens: 3, isEstimated: false };
const OBJECT = JSON.stringify({ choices: [{ message: { content: 'Good day' } }], usage: USAGE, model: 'm' });

describe('of an answer, the pump', () => {
  const hops = openHops();
  const { between } = hops;
  afterEach(hops.close);

  describe('keeps', () => {
    const HEADERS = { ...JSON_TYPE, 'content-length': '5', 'openai-version': '1', 'set-cookie': 'a=b' };
    const passedOn = ['content-type', 'application/json', 'content-length', '5', 'openai-version', '1'];
    const WHOLE: [what: string, pieces: string[], keepBytes: number, body: string | undefined][] = [
      ['all of a whole one', ['{', '"":', '}'], 5, '{"":}'],
      ['that there was one, when it is too large', ['{', '"":', '}'], 4, undefined],
    ];
    for (const [what, pieces, keepBytes, body] of WHOLE) {
      it(what, async () => {
        const { outcome, passed } = await between(saying(pieces, { headers: HEADERS, pauseMs: 5 }), {
          isStream: false,
          keepBytes,
        });
        assert.equal((await outcome()).text, '{"":}');
        const kept = { status: 200, headers: passedOn, body: body === undefined ? undefined : Buffer.from(body) };
        assert.deepEqual(await passed[0]!.done, { end: 'whole', kept });
      });
    }

    it('an empty one', async () => {
      const headers = { 'content-length': '0' };
      const { outcome, passed } = await between(saying([], { headers }), { isStream: false, keepBytes: 100 });
      await outcome();
      const kept = { status: 200, headers: ['content-length', '0'], body: Buffer.alloc(0) };
      assert.deepEqual(await passed[0]!.done, { end: 'whole', kept });
    });

    for (const [what, isStream, keepBytes, pieces] of [
      ['a stream', true, 1000, [DONE]],
      ['one that nobody will ask for again', false, 0, ['{}']],
    ] as const) {
      it(`nothing of ${what}`, async () => {
        const { outcome, passed } = await between(saying(pieces, isStream ? {} : { headers: JSON_TYPE }), {
          isStream,
          keepBytes,
        });
        await outcome();
        assert.deepEqual(await passed[0]!.done, { end: 'whole', kept: undefined });
      });
    }

    it('a whole one, though its caller has left', async () => {
      const { call, passed } = await between(
        saying([OBJECT], { headers: { ...JSON_TYPE, 'content-length': OBJECT.length } }),
        {
          isStream: false,
          keepBytes: 1000,
        },
      );
      const request = call().on('response', () => request.destroy());
      while (passed.length === 0) await setTimeout(5);
      await passed[0]!.reply.closed;
      const end = await passed[0]!.done;
      assert.equal(end.end === 'whole' && end.kept?.body?.toString(), OBJECT);
    });
  });

  describe('reads what was used', () => {
    it('at its end, wherever it is torn', async () => {
      // Every part of it, and the spaces behind it, may come by itself.
      for (const at of [1, OBJECT.indexOf('"usage"'), OBJECT.indexOf('prompt'), OBJECT.length - 2, OBJECT.length]) {
        const pieces = [OBJECT.slice(0, at), `${OBJECT.slice(at)}\n`];
        const { outcome, passed } = await between(saying(pieces, { headers: JSON_TYPE, pauseMs: 10 }), {
          isStream: false,
        });
        await outcome();
        assert.deepEqual(passed[0]!.pump.usage(), KNOWN, `${at}`);
      }
    });

    it('at the end of a long one, in small pieces', async () => {
      const bytes = Buffer.from(JSON.stringify({ text: 'x'.repeat(50_000), usage: USAGE }));
      const pieces = Array.from({ length: bytes.length / 50 + 1 }, (_, i) => bytes.subarray(i * 50, (i + 1) * 50));
      const { outcome, passed } = await between(saying(pieces, { headers: JSON_TYPE }), { isStream: false });
      await outcome();
      assert.deepEqual(passed[0]!.pump.usage(), KNOWN);
    });

    it('in the last chunk of a stream, torn or not', async () => {
      const last = `data: ${JSON.stringify({ choices: [], usage: USAGE })}\n\n`;
      for (const at of [0, 10, last.indexOf('prompt'), last.length]) {
        const pieces = [event('a') + last.slice(0, at), last.slice(at) + DONE];
        const { outcome, passed } = await between(saying(pieces, { pauseMs: 10 }));
        await outcome();
        assert.deepEqual(passed[0]!.pump.usage(), KNOWN, `${at}`);
      }
    });

    it('or counts, where nothing is said of it', async () => {
      const one = await between(saying(['{"abc":12}'], { headers: JSON_TYPE }), { isStream: false });
      await one.outcome();
      assert.deepEqual(one.passed[0]!.pump.usage(), { outputTokens: 3, isEstimated: true });
      const stream = await between(saying([event('a'), event('b'), DONE]));
      await stream.outcome();
      assert.deepEqual(stream.passed[0]!.pump.usage(), { outputTokens: 2, isEstimated: true });
    });

    it('or counts, where it breaks off before that', async () => {
      const { outcome, passed } = await between(saying([event('a'), event('b'), event('c')], { pauseMs: 5 }));
      await outcome();
      assert.deepEqual(passed[0]!.pump.usage(), { outputTokens: 3, isEstimated: true });
    });

    it('as nothing, where there was no answer', async () => {
      const { outcome, passed } = await between(saying(['{}'], { headers: JSON_TYPE, status: 500 }), {
        isStream: false,
      });
      await outcome();
      assert.equal(passed[0]!.pump.usage(), undefined);
    });
  });
});

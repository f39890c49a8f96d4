import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener, ServerResponse } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { Dispatcher } from 'undici';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import type { Relayed } from './attempt.ts';
import { DONE, event, JSON_TYPE, openHops, saying, SSE } from './hop.test-support.ts';

const GOOD = saying([event('a'), DONE]);
const reset: RequestListener = ({ socket }) => void socket.resetAndDestroy();
const error = (more: object) => `data: ${JSON.stringify({ error: { message: 'no', ...more } })}\n\n`;

/** Begins like this, and is then reset. */
const resetBehind =
  (begin: (response: ServerResponse) => unknown): RequestListener =>
  async (request, response) => {
    begin(response);
    await setTimeout(20);
    request.socket.resetAndDestroy();
  };

describe('an attempt that went wrong', () => {
  const hops = openHops();
  const { hop } = hops;
  afterEach(hops.close);

  const BROKEN: [what: string, vendor: RequestListener | 'nobody', code: ErrorCode, isStream?: false][] = [
    ['where nobody is', 'nobody', 'upstream_unreachable'],
    ['by a reset in place of an answer', reset, 'upstream_cut'],
    ['by an end in place of an answer', ({ socket }) => void socket.end(), 'upstream_cut'],
    ['by what is no HTTP', ({ socket }) => void socket.end('nonsense\r\n\r\n'), 'upstream_cut'],
    [
      'by a reset behind the headers',
      resetBehind((response) => response.writeHead(200, SSE).flushHeaders()),
      'upstream_cut',
    ],
    [
      'by a reset behind a comment',
      resetBehind((response) => response.writeHead(200, SSE).write(': hi\n\n')),
      'upstream_cut',
    ],
    [
      'by a reset in the first event',
      resetBehind((response) => response.writeHead(200, SSE).write('data: {"a"')),
      'upstream_cut',
    ],
    [
      'by a reset behind headers of no stream',
      resetBehind((response) => response.writeHead(200, JSON_TYPE).flushHeaders()),
      'upstream_cut',
      false,
    ],
    ['by a polite end before the first event', saying([]), 'upstream_cut'],
    ['by a polite end behind comments', saying([': hi\n\n', ': hi\n\n']), 'upstream_cut'],
    ['by a polite end in the first event', saying(['data: {"a"']), 'upstream_cut'],
    ['by an empty answer', saying([], { headers: JSON_TYPE }), 'upstream_cut', false],
    ['by a first event that is garbled', saying(['dbta: {"a":1}\n\n', DONE]), 'upstream_garbled'],
    ['by a first event that is no chunk', saying(['data: nonsense\n\n', DONE]), 'upstream_garbled'],
    [
      'by a first event that is no text',
      saying([Buffer.from('data: {"\xff":1}\n\n', 'latin1'), DONE]),
      'upstream_garbled',
    ],
    ['by a first event without an end', saying(['data: ', 'x'.repeat(1_100_000)]), 'upstream_garbled'],
  ];
  describe('without a word of an answer,', () => {
    for (const [what, vendor, code, isStream = true] of BROKEN) {
      const good = isStream ? GOOD : saying(['{}'], { headers: JSON_TYPE });

      it(`${what}, is made once more with another provider`, async () => {
        const { outcome, asked } = await hop({ vendors: [vendor, good, assert.fail], isStream });
        const { answer, end } = await outcome();
        assert.ok(!(end instanceof ApiError), String(end));
        assert.deepEqual([answer.status, answer.isWhole, end.end], [200, true, 'whole']);
        assert.deepEqual([end.provider, end.repeatedAfter, end.upstreamStatus], ['vendor-2', code, 200]);
        assert.deepEqual([end.error, end.bytes], [undefined, answer.bytes.length]);
        const keys = asked.flat().map(({ headers }) => headers['idempotency-key']);
        assert.deepEqual(keys, vendor === 'nobody' ? ['key_1'] : ['key_1', 'key_1']);
        assert.equal(asked[2]!.length, 0);
      });

      it(`${what}, is made exactly once more where there is no other`, async () => {
        const { outcome, asked } = await hop({ vendors: [vendor], isStream });
        const { answer, end } = await outcome();
        assert.ok(end instanceof ApiError);
        assert.deepEqual([end.code, answer.status], [code, 502]);
        const isFree = code === 'upstream_unreachable';
        assert.deepEqual(end.headers, isFree ? {} : { 'x-should-retry': 'false' });
        const keys = asked[0]!.map(({ headers }) => headers['idempotency-key']);
        assert.deepEqual(keys, isFree ? [] : ['key_1', 'key_1']);
      });
    }

    it('is whole when the same provider answers then', async () => {
      let isFirst = true;
      const vendor: RequestListener = (request, response) => {
        (isFirst ? reset : GOOD)(request, response);
        isFirst = false;
      };
      const { outcome, asked } = await hop({ vendors: [vendor], isStream: true });
      const { answer, end } = await outcome();
      assert.equal(answer.text, event('a') + DONE);
      assert.ok(!(end instanceof ApiError));
      assert.deepEqual([end.provider, end.repeatedAfter, asked[0]!.length], ['vendor-1', 'upstream_cut', 2]);
    });

    it('is told as the other one ended, when that is not better', async () => {
      const { outcome, asked } = await hop({ vendors: [reset, saying(['no'], { status: 503 })], isStream: true });
      const { end } = await outcome();
      assert.ok(end instanceof ApiError && end.code === 'upstream_failed');
      assert.deepEqual([asked[0]!.length, asked[1]!.length], [1, 1]);
    });

    it('is given another provider’s own body and credential', async () => {
      const bodies: string[] = [];
      const note =
        (then: RequestListener): RequestListener =>
        async (request, response) => {
          bodies.push(String(Buffer.concat(await request.toArray())));
          then(request, response);
        };
      const { outcome, asked } = await hop({ vendors: [note(reset), note(GOOD)], isStream: true });
      await outcome();
      assert.deepEqual(
        bodies,
        ['vendor-1', 'vendor-2'].map((name) => `{"model":"m","messages":[],"for":"${name}"}`),
      );
      assert.equal(asked[1]![0]!.headers.authorization, 'Bearer sk-vendor-2');
    });
  });

  describe('because a provider could not serve it', () => {
    const REFUSALS: [what: string, vendor: RequestListener, code: ErrorCode][] = [
      ...[429, 500, 502, 503, 401, 402, 403, 301].map((status): [string, RequestListener, ErrorCode] => [
        `with a ${status}`,
        saying(['no'], { status, headers: { location: '/' } }),
        status === 429 ? 'upstream_busy' : 'upstream_failed',
      ]),
      ['in its first event', saying([error({ type: 'server_error' }), DONE]), 'upstream_failed'],
      ['in its first event, being busy', saying([error({ code: 429 }), DONE]), 'upstream_busy'],
      ['with a refusal that has no end', saying(['x'.repeat(100_000)], { status: 500 }), 'upstream_failed'],
    ];
    for (const [what, vendor, code] of REFUSALS) {
      it(`is made once more with another, ${what}`, async () => {
        const { outcome, asked } = await hop({ vendors: [vendor, GOOD], isStream: true });
        const { end } = await outcome();
        assert.ok(!(end instanceof ApiError));
        assert.deepEqual([end.end, end.provider, end.repeatedAfter], ['whole', 'vendor-2', code]);
        assert.deepEqual([asked[0]!.length, asked[1]!.length], [1, 1]);
      });

      it(`is not made again with the same, ${what}`, async () => {
        const { outcome, asked } = await hop({ vendors: [vendor], isStream: true });
        const { end } = await outcome();
        assert.ok(end instanceof ApiError && end.code === code);
        assert.equal(asked[0]!.length, 1);
      });
    }
  });

  describe('is not made again', () => {
    const FINAL: [what: string, vendor: RequestListener, code: ErrorCode, isStream?: false][] = [
      ...[400, 404, 409, 413, 422].map((status): [string, RequestListener, ErrorCode] => [
        `after a refusal of the request, with a ${status}`,
        saying(['{"error":{"message":"no"}}'], { status }),
        'upstream_refused',
      ]),
      ['after a refusal of the request in the first event', saying([error({ code: 400 })]), 'upstream_refused'],
      ['after a time-out', () => {}, 'upstream_timeout'],
      [
        'after a time-out behind the headers',
        (_, response) => response.writeHead(200, SSE).flushHeaders(),
        'upstream_timeout',
      ],
      ['after an answer of another type', saying(['{}'], { headers: JSON_TYPE }), 'upstream_garbled'],
      [
        'after a compressed one',
        saying([DONE], { headers: { ...SSE, 'content-encoding': 'gzip' } }),
        'upstream_garbled',
      ],
    ];
    for (const [what, vendor, code, isStream = true] of FINAL) {
      it(what, async () => {
        const timeouts = { headersMs: 60, firstByteMs: 60 };
        const { outcome, asked } = await hop({ vendors: [vendor, assert.fail], isStream, timeouts });
        const { end } = await outcome();
        assert.ok(end instanceof ApiError);
        assert.equal(end.code, code);
        assert.deepEqual([asked[0]!.length, asked[1]!.length], [1, 0]);
      });
    }

    const BEGUN: [what: string, vendor: RequestListener, code: ErrorCode, isStream?: false][] = [
      ['is reset', resetBehind((response) => response.writeHead(200, SSE).write(event('a'))), 'upstream_cut'],
      ['ends politely', saying([event('a')]), 'upstream_cut'],
      ['is garbled', saying([event('a'), 'dbta: {}\n\n'], { pauseMs: 10 }), 'upstream_garbled'],
      ['is garbled in the same breath', saying([`${event('a')}dbta: {}\n\n`]), 'upstream_garbled'],
      ['holds an error', saying([event('a'), error({})], { pauseMs: 10 }), 'upstream_failed'],
      ['holds an error in the same breath', saying([event('a') + error({})]), 'upstream_failed'],
      ['falls silent', (_, response) => void response.writeHead(200, SSE).write(event('a')), 'upstream_timeout'],
      [
        'is reset, and is no stream',
        resetBehind((response) => response.writeHead(200, JSON_TYPE).write('{')),
        'upstream_cut',
        false,
      ],
    ];
    for (const [what, vendor, code, isStream = true] of BEGUN) {
      it(`after the first words of an answer, when it ${what}`, async () => {
        const { outcome, asked } = await hop({ vendors: [vendor, assert.fail], isStream, timeouts: { idleMs: 60 } });
        const { answer, end } = await outcome();
        assert.ok(!(end instanceof ApiError));
        assert.deepEqual([end.end, end.error?.code, end.repeatedAfter], ['cut', code, undefined]);
        assert.deepEqual([asked[0]!.length, asked[1]!.length, answer.isWhole], [1, 0, false]);
        assert.ok(answer.text.startsWith(isStream ? event('a') : '{'));
      });
    }

    it('after the caller has left, in the very moment', async () => {
      const { ask, calls, asked } = await hop({
        vendors: [assert.fail, assert.fail],
        dispatcher: new Failing(() => calls),
      });
      ask();
      while (calls.length === 0) await setTimeout(5);
      await calls[0]!.end;
      assert.deepEqual([asked[0]!.length, asked[1]!.length], [0, 0]);
    });

    it('after the time is up altogether, which has been running since the first', async () => {
      const slow: RequestListener = async ({ socket }) => {
        await setTimeout(120);
        socket.destroy();
      };
      const gone = Promise.withResolvers<void>();
      const { outcome, asked } = await hop({
        vendors: [slow, (_, response) => void response.on('close', gone.resolve)],
        timeouts: { totalMs: 200 },
      });
      const beganMs = performance.now();
      const { end } = await outcome();
      const tookMs = performance.now() - beganMs;
      assert.ok(end instanceof ApiError && end.code === 'upstream_timeout');
      assert.ok(tookMs > 190 && tookMs < 310, `${tookMs} ms`);
      await gone.promise;
      assert.deepEqual([asked[0]!.length, asked[1]!.length], [1, 1]);
    });
  });

  it('hangs up on the other provider, too, when the caller leaves', async () => {
    const second = Promise.withResolvers<ServerResponse>();
    const { ask, calls, live } = await hop({ vendors: [reset, (_, response) => second.resolve(response)] });
    const request = ask();
    const gone = once(await second.promise, 'close');
    request.destroy();
    await gone;
    const end = (await calls[0]!.end) as Relayed;
    assert.deepEqual([end.end, end.repeatedAfter, end.provider], ['hung up', 'upstream_cut', 'vendor-2']);
    assert.equal(live.size, 0);
  });
});

/** A way out on which the caller leaves just before it fails. */
class Failing extends Dispatcher {
  readonly #calls: () => { response: ServerResponse }[];

  constructor(calls: () => { response: ServerResponse }[]) {
    super();
    this.#calls = calls;
  }

  override dispatch(_: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    void setTimeout(10).then(() => {
      this.#calls()[0]!.response.destroy();
      handler.onResponseError?.(undefined as never, new Error('refused'));
    });
    return true;
  }
}

import assert from 'node:assert/strict';
import type { RequestListener, ServerResponse } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { ApiError } from '@sallyport/protocol/errors.ts';
import type { Relayed } from './attempt.ts';
import { DONE, event, JSON_TYPE, openHops, saying, SSE } from './hop.test-support.ts';

const PING = ': ping\n\n';
const SILENCE_MS = 40;

describe('an attempt at a stream, in a silence,', () => {
  const hops = openHops();
  const { hop } = hops;
  afterEach(hops.close);

  const relay = { pingMs: SILENCE_MS };
  /** Waits for two and a half silences, and then does this. */
  const late =
    (
      then: (response: ServerResponse) => unknown,
      first: (response: ServerResponse) => unknown = () => {},
    ): RequestListener =>
    async (_, response) => {
      first(response);
      await setTimeout(2.5 * SILENCE_MS);
      then(response);
    };
  const pings = (text: string) => text.split(PING).length - 1;

  for (const [when, first] of [
    ['while the headers are waited for', () => {}],
    ['before the first byte', (response: ServerResponse) => response.writeHead(200, SSE).flushHeaders()],
  ] as const) {
    it(`begins a 200 and pings ${when}, and then carries what comes`, async () => {
      const vendor = late((response) =>
        response.writeHead(200, { ...SSE, 'openai-version': '1' }).end(event('a') + DONE),
      );
      const announced = late((response) => response.end(event('a') + DONE), first);
      const { outcome } = await hop({
        vendors: [when.startsWith('before') ? announced : vendor],
        relay,
        isStream: true,
      });
      const { answer, end } = await outcome();
      assert.equal(answer.status, 200);
      assert.equal(answer.headers['content-type'], 'text/event-stream');
      assert.equal(answer.headers['x-accel-buffering'], 'no');
      assert.equal(answer.headers['x-request-id'], 'req_1');
      assert.ok(answer.headers['x-sallyport-overhead-ms']);
      // Two, and on a machine that has other things to do, one.
      assert.ok(pings(answer.text) >= 1);
      assert.equal(answer.text.replaceAll(PING, ''), event('a') + DONE);
      assert.ok(answer.isWhole);
      // A ping is no byte of the answer.
      assert.equal((end as Relayed).bytes, event('a').length + DONE.length);
    });
  }

  it('pings between two events', async () => {
    const vendor = late(
      (response) => response.end(event('b') + DONE),
      (response) => response.writeHead(200, SSE).write(event('a')),
    );
    const { outcome } = await hop({ vendors: [vendor], relay, isStream: true });
    const { text } = (await outcome()).answer;
    assert.equal(text, event('a') + PING + PING + event('b') + DONE);
  });

  it('pings before or behind an event that comes in halves, but never inside', async () => {
    const halves = ['data: {"a":1,', '"b":2}\n\ndata: {"c"', ':3}\n', `\n${event('a')}data: [DO`, 'NE]\n\n'];
    const vendor = saying(halves, { pauseMs: 1.5 * SILENCE_MS });
    const { outcome } = await hop({ vendors: [vendor], relay, isStream: true });
    const { text } = (await outcome()).answer;
    assert.equal(text.replaceAll(PING, ''), `data: {"a":1,"b":2}\n\ndata: {"c":3}\n\n${event('a')}${DONE}`);
    assert.ok(pings(text) >= 3);
    for (const part of text.split('\n\n').slice(0, -1)) assert.match(part, /^(?:: ping|data: (?:\{.*\}|\[DONE\]))$/);
  });

  it('does not, while words or comments of the vendor’s keep it from being one for the caller', async () => {
    const words = Array.from({ length: 10 }, (_, i) => event(String(i)));
    const { outcome } = await hop({
      vendors: [saying([...words, DONE], { pauseMs: 20 })],
      relay: { pingMs: 80 },
      isStream: true,
    });
    assert.equal(pings((await outcome()).answer.text), 0);
  });

  it('pings though the vendor does, whose comments go no further', async () => {
    const hi = Array.from({ length: 8 }, () => ': hi\n\n');
    const { outcome } = await hop({ vendors: [saying([...hi, DONE], { pauseMs: 20 })], relay, isStream: true });
    const { text } = (await outcome()).answer;
    assert.ok(pings(text) >= 2);
    assert.equal(text.replaceAll(PING, ''), DONE);
  });

  it('does not where the caller asked for no stream', async () => {
    const vendor = late(
      (response) => void setTimeout(2.5 * SILENCE_MS).then(() => response.end('1}')),
      (response) => response.writeHead(200, JSON_TYPE).write('{"a":'),
    );
    const { outcome } = await hop({ vendors: [vendor], relay });
    const { headers, text, isWhole } = (await outcome()).answer;
    assert.deepEqual([headers['content-type'], text, isWhole], ['application/json', '{"a":1}', true]);
  });

  it('does not where the vendor answers in time, whatever it is', async () => {
    const { outcome } = await hop({ vendors: [saying(['{}'], { status: 500 })], relay, isStream: true });
    assert.equal((await outcome()).answer.status, 502);
  });

  describe('has begun an answer whose status is no longer ours, so that', () => {
    const said = JSON.stringify({ error: { message: 'n is too large', param: 'n', code: 'bad_n' } });
    const FAILURES: [what: string, vendor: RequestListener, code: string, facts: RegExp][] = [
      [
        'a refusal',
        late((response) => response.writeHead(400).end(said)),
        'upstream_refused',
        /"message":".*n is too large".*"param":"n","code":"bad_n"/,
      ],
      [
        'a busy vendor',
        late((response) => response.writeHead(429).end()),
        'upstream_busy',
        /"type":"rate_limit_error".*"code":"upstream_busy"/,
      ],
      [
        'an answer that is no stream',
        late((response) => response.writeHead(200, JSON_TYPE).end('{}')),
        'upstream_garbled',
        /"code":"upstream_garbled"/,
      ],
      ['a vendor that never answers', () => {}, 'upstream_timeout', /"code":"upstream_timeout"/],
    ];
    for (const [what, vendor, code, facts] of FAILURES) {
      it(`${what} becomes an error event, and the connection breaks`, async () => {
        const { outcome, asked } = await hop({
          vendors: [vendor],
          relay,
          isStream: true,
          timeouts: { headersMs: 150 },
        });
        const { answer, end } = await outcome();
        assert.deepEqual([answer.status, answer.isWhole], [200, false]);
        const error = answer.text.replaceAll(PING, '');
        assert.match(error, /^event: error\ndata: \{"error":\{[^\n]*"request_id":"req_1"\}\}\n\n$/);
        assert.match(error, facts);
        assert.ok(!(end instanceof ApiError));
        assert.deepEqual([end.end, end.bytes, end.error?.code], ['cut', 0, code]);
        assert.equal(asked[0]!.length, 1);
      });
    }

    it('another attempt can still be made, because nothing has been answered', async () => {
      const vendors = [late((response) => response.destroy()), saying([event('a'), DONE])];
      const { outcome } = await hop({ vendors, relay, isStream: true });
      const { answer, end } = await outcome();
      // Two, and on a machine that has other things to do, one.
      assert.ok(pings(answer.text) >= 1);
      assert.equal(answer.text.replaceAll(PING, ''), event('a') + DONE);
      assert.ok(!(end instanceof ApiError));
      assert.deepEqual([end.end, end.provider, end.repeatedAfter], ['whole', 'vendor-2', 'upstream_cut']);
    });
  });
});

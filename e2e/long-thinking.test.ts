import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { APIError, OpenAI } from 'openai';
import { signingFetch } from './signing-fetch.ts';
import { answerOk, openWorld, type Vendor, type World } from './world.ts';

const PING_MS = 200;

describe('a vendor that thinks for long', () => {
  let world: World;
  before(async () => {
    world = await openWorld({
      more: `streams: { ping_seconds: ${PING_MS / 1000} }`,
      timeouts: 'headers_seconds: 1.5, first_byte_seconds: 1.5',
    });
  });
  after(() => world.close());

  const later = (ms: number, answer: Vendor): Vendor => {
    return (request, body, response) => void setTimeout(ms).then(() => answer(request, body, response));
  };
  const busy: Vendor = (_, __, response) => response.writeHead(429, { 'retry-after': '7' }).end();
  const refuse: Vendor = (_, __, response) =>
    response.writeHead(400).end(JSON.stringify({ error: { message: 'too long', code: 'context_length_exceeded' } }));

  async function stream(): Promise<string> {
    const client = new OpenAI({
      apiKey: 'x',
      baseURL: `${world.base}/v1`,
      fetch: signingFetch('desktop'),
      maxRetries: 0,
    });
    let text = '';
    const messages = [{ role: 'user' as const, content: 'think' }];
    for await (const { choices } of await client.chat.completions.create({ model: 'gpt-4o', messages, stream: true })) {
      text += choices[0]?.delta.content ?? '';
    }
    return text;
  }

  it('keeps its own status as long as nothing was sent', async () => {
    world.vendor.answerWith(later(PING_MS / 2, busy));
    await assert.rejects(stream, (error) => {
      assert.ok(error instanceof APIError);
      assert.deepEqual([error.status, error.code, error.headers?.get('retry-after')], [429, 'upstream_busy', '7']);
      return true;
    });
  });

  it('does not lose the caller: comments come in the meantime, and the answer after them', async () => {
    world.vendor.answerWith(later(PING_MS * 3.5, answerOk));
    const { status, headers, text } = await world.chat({ stream: true });
    assert.deepEqual([status, headers['content-type']], [200, 'text/event-stream']);
    assert.match(text, /^(: ping\n\n){3}data: \{/);
    assert.match(text, /data: \[DONE\]\n\n$/);
    assert.equal(await stream(), 'Good day');
  });

  for (const [what, vendor, code, says] of [
    ['a refusal', refuse, 'context_length_exceeded', /too long/],
    ['a limit', busy, 'upstream_busy', /wait/],
    ['a silence', later(60_000, answerOk), 'upstream_timeout', /did not answer in 2 s/],
  ] as const) {
    it(`after comments, ${what} is an error event that the client hears of`, async () => {
      world.vendor.answerWith(later(PING_MS * 1.5, vendor));
      await assert.rejects(stream, (error) => {
        assert.ok(error instanceof APIError);
        assert.equal(error.code, code);
        assert.match(error.message, says);
        return true;
      });
    });
  }

  it('gets no comments into an answer that is no stream', async () => {
    world.vendor.answerWith(later(PING_MS * 2.5, answerOk));
    const { text } = await world.chat();
    assert.equal(JSON.parse(text).choices[0].message.content, 'Good day');
  });

  it('is heard in pauses too, and its comments stand between events', async () => {
    world.vendor.answerWith((_, __, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: {"choices":[]}\n\ndata: {"cho');
      void setTimeout(PING_MS * 1.5).then(() => response.end('ices":[]}\n\ndata: [DONE]\n\n'));
    });
    const { text } = await world.chat({ stream: true });
    assert.equal(text, 'data: {"choices":[]}\n\n: ping\n\ndata: {"choices":[]}\n\ndata: [DONE]\n\n');
  });
});

describe('a broker that hides what its providers say', () => {
  it('answers with the same plain 502 whatever it was, and leaves what it was in the log', async () => {
    const world = await openWorld({ more: 'hide_upstream_errors: true' });
    try {
      for (const status of [400, 401, 404, 429, 500, 503]) {
        world.vendor.answerWith((_, __, response) =>
          response.writeHead(status, { 'retry-after': '7' }).end(JSON.stringify({ error: { message: 'their words' } })),
        );
        const answer = await world.chat();
        assert.deepEqual([answer.status, answer.error.code], [502, 'upstream_failed']);
        assert.ok(!answer.text.includes('their words'));
        assert.match(String(answer.headers['x-request-id']), /^req_/);
      }
      assert.equal((await world.chat({ temperature: 9 })).error.code, 'temperature_out_of_range', 'our own words stay');
      await setTimeout(300);
      assert.ok(world.log.some((line) => line.includes('upstream_busy')));
    } finally {
      await world.close();
    }
  });
});

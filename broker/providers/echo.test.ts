import assert from 'node:assert/strict';
import type { Dispatcher } from 'undici';
import { DIRECTIVES, echo } from './echo.ts';

type Heard = { status: number; headers: Record<string, string>; text: string; end: 'end' | 'cut'; ms: number };
type Usage = { prompt_tokens: number; completion_tokens: number; total_tokens: number };
type Whole = { choices: { message: { role: string; content: string }; finish_reason: string }[]; usage: Usage };
type Chunk = {
  choices: { delta: { content?: string; role?: string }; finish_reason: string | null }[];
  usage?: Usage | null;
};

const timeouts = { connectMs: 1, headersMs: 1, firstByteMs: 1, idleMs: 1, totalMs: 1 };
const provider = echo({ name: 'echo', kind: 'echo', allowPrivate: false, timeouts }, () => 1_767_225_600_999);
const GREETING = 'This is the built-in echo, not an AI model. You said: ';

function ask(
  path: string,
  body: object,
): { heard: Promise<Heard>; controller: Promise<Dispatcher.DispatchController> } {
  const heard = Promise.withResolvers<Heard>();
  const controller = Promise.withResolvers<Dispatcher.DispatchController>();
  const began = performance.now();
  let [status, headers, text] = [0, {}, ''];
  const finish = (end: Heard['end']) => {
    heard.resolve({ status, headers, text, end, ms: performance.now() - began });
  };
  provider.dispatcher.dispatch(
    { origin: provider.origin, path, method: 'POST', body: Buffer.from(JSON.stringify(body)) },
    {
      onRequestStart: controller.resolve,
      onResponseStart: (_, code, fields) => void ([status, headers] = [code, fields]),
      onResponseData: (_, chunk) => void (text += chunk.toString()),
      onResponseEnd: () => finish('end'),
      onResponseError: () => finish('cut'),
    },
  );
  return { heard: heard.promise, controller: controller.promise };
}

function chat(said: unknown, more: object = {}): Promise<Heard> {
  return ask(provider.paths.chat, { model: 'echo', messages: [{ role: 'user', content: said }], ...more }).heard;
}

async function whole(said: unknown, more: object = {}): Promise<Whole> {
  const { status, text } = await chat(said, more);
  assert.equal(status, 200);
  return JSON.parse(text);
}

async function chunks(said: unknown, more: object = {}): Promise<Chunk[]> {
  const { headers, text, end } = await chat(said, { stream: true, ...more });
  assert.equal(headers['content-type'], 'text/event-stream');
  assert.equal(end, 'end');
  const events = text.split('\n\n');
  assert.deepEqual(events.splice(-2), ['data: [DONE]', '']);
  return events.map((event) => JSON.parse(event.replace(/^data: /, '')));
}

describe('the echo', () => {
  it('repeats what it was told, and says that it is no model', async () => {
    const { text, headers } = await chat('hello there');
    const { id, ...rest } = JSON.parse(text);
    assert.match(id, /^chatcmpl-/);
    assert.equal(headers['content-length'], String(Buffer.byteLength(text)));
    assert.deepEqual(rest, {
      object: 'chat.completion',
      created: 1_767_225_600,
      model: 'echo',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: `${GREETING}hello there`, refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: 2, completion_tokens: 13, total_tokens: 15 },
    });
  });

  const SAID: [what: string, messages: unknown[], repeated: string][] = [
    [
      'the last thing a user said',
      [
        { role: 'user', content: 'a' },
        { role: 'user', content: 'b' },
      ],
      'b',
    ],
    [
      'the user and not whoever spoke last',
      [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b' },
      ],
      'a',
    ],
    ['whoever spoke, when it was no user', [{ role: 'system', content: 'a' }], 'a'],
    [
      'the text among the parts',
      [{ role: 'user', content: [{ type: 'text', text: 'a' }, { type: 'image_url' }] }],
      'a ',
    ],
    ['nothing where nothing was said', [], ''],
    ['nothing of a content that is null', [{ role: 'user', content: null }], ''],
    ['nothing of a part that is null', [{ role: 'user', content: [null] }], ''],
    ['nothing of a message that is none', [null], ''],
    ['spaces and lines as they are', [{ role: 'user', content: 'a  b\n c' }], 'a  b\n c'],
  ];
  for (const [what, messages, repeated] of SAID) {
    it(`repeats ${what}`, async () => {
      assert.equal((await whole('', { messages })).choices[0]!.message.content, GREETING + repeated);
    });
  }

  it('streams word by word, in the shape of a chat', async () => {
    const all = await chunks('a b');
    assert.equal(all.length, 14);
    assert.deepEqual(all[0]!.choices[0]!.delta, { role: 'assistant', content: 'This ' });
    assert.equal(all.map(({ choices }) => choices[0]!.delta.content ?? '').join(''), `${GREETING}a b`);
    assert.deepEqual(all.at(-1)!.choices[0], { index: 0, delta: {}, logprobs: null, finish_reason: 'stop' });
    assert.ok(all.slice(0, -1).every(({ choices }) => choices[0]!.finish_reason === null));
    assert.ok(all.every((chunk) => !('usage' in chunk)));
  });

  it('tells the usage of a stream when asked to, and only then', async () => {
    const all = await chunks('a b', { stream_options: { include_usage: true } });
    const last = all.pop()!;
    assert.deepEqual(last.choices, []);
    assert.deepEqual(last.usage, { prompt_tokens: 2, completion_tokens: 13, total_tokens: 15 });
    assert.ok(all.every(({ usage }) => usage === null));
    assert.ok((await chunks('a', { stream_options: null })).every((chunk) => !('usage' in chunk)));
  });

  for (const [limits, words, reason] of [
    [{ max_tokens: 3 }, 3, 'length'],
    [{ max_completion_tokens: 3 }, 3, 'length'],
    [{ max_tokens: 12 }, 12, 'stop'],
    [{ max_tokens: 11 }, 11, 'length'],
    [{ max_tokens: 9, max_completion_tokens: 2 }, 2, 'length'],
    [{ max_tokens: null }, 12, 'stop'],
  ] as const) {
    it(`says ${words} words with ${JSON.stringify(limits)}`, async () => {
      const { choices, usage } = await whole('x', limits);
      assert.equal(usage.completion_tokens, words);
      assert.equal(choices[0]!.finish_reason, reason);
      assert.equal((await chunks('x', limits)).at(-1)!.choices[0]!.finish_reason, reason);
    });
  }

  describe('obeys', () => {
    it('every directive that it lists, and these tests know them all', () => {
      assert.deepEqual(Object.keys(DIRECTIVES), ['/delay', '/pause', '/words', '/fail', '/cut', '/stall']);
    });

    it('/words: that many', async () => {
      assert.equal((await whole('/words 3')).choices[0]!.message.content, 'word1 word2 word3 ');
      assert.equal((await whole('/words 3', { max_tokens: 2 })).choices[0]!.message.content, 'word1 word2 ');
      assert.equal((await whole('/words 9999999')).usage.completion_tokens, 100_000);
    });

    it('/fail: that status, and no answer', async () => {
      for (const status of [400, 401, 429, 500, 599]) {
        for (const stream of [true, false]) {
          const heard = await chat(`/fail ${status}`, { stream });
          assert.equal(heard.status, status);
          assert.equal(JSON.parse(heard.text).error.code, 'echo_failure');
        }
      }
      for (const status of [200, 399, 600]) assert.equal((await chat(`/fail ${status}`)).status, 200);
    });

    it('/delay: so long before it begins', async () => {
      assert.ok((await chat('/delay 40')).ms >= 39);
    });

    it('/pause: so long after each word', async () => {
      assert.ok((await chat('/words 4\n/pause 12', { stream: true })).ms >= 40);
    });

    it('/cut: breaks off after so many words', async () => {
      const heard = await chat('/words 9\n/cut 2', { stream: true });
      assert.equal(heard.end, 'cut');
      assert.equal(heard.text.split('\n\n').length - 1, 2);
      const half = await chat('/words 9\n/cut 2');
      assert.equal(half.end, 'cut');
      assert.ok(half.text.length > 0 && half.text.length < Number(half.headers['content-length']));
      assert.equal((await chat('/cut 0')).text, '');
      assert.equal((await chat('/words 2\n/cut 99')).end, 'end');
    });

    it('/stall: falls silent after so many words, until it is hung up on', async () => {
      const body = { model: 'echo', stream: true, messages: [{ role: 'user', content: '/words 9\n/stall 2' }] };
      const { heard, controller } = ask(provider.paths.chat, body);
      const { abort } = await controller.then((one) => ({ abort: () => one.abort(new Error('enough')) }));
      const first = await Promise.race([heard, new Promise((resolve) => setTimeout(resolve, 40))]);
      assert.equal(first, undefined);
      abort();
      const { text, end } = await heard;
      assert.equal(end, 'cut');
      assert.equal(text.split('\n\n').length - 1, 2);
    });

    it('several of them, and repeats what follows', async () => {
      const { choices } = await whole('/delay 1\n /pause 0 \nhello\n/words 2');
      assert.equal(choices[0]!.message.content, `${GREETING}hello\n/words 2`);
    });

    for (const said of [
      '/words',
      '/words x',
      '/words -1',
      '/words 1.5',
      '/words 12345678',
      '/toString 1',
      'a /words 2',
    ]) {
      it(`nothing in ${said}`, async () => {
        assert.equal((await whole(said)).choices[0]!.message.content, GREETING + said);
      });
    }
  });

  describe('embeds', () => {
    async function embed(body: object) {
      const { status, text } = await ask(provider.paths.embeddings, { model: 'echo', ...body }).heard;
      assert.equal(status, 200);
      return JSON.parse(text);
    }

    it('a text as numbers that are the same for the same text', async () => {
      const { data, usage, object } = await embed({ input: ['a b', 'c', 'a b'] });
      assert.equal(object, 'list');
      assert.deepEqual(
        data.map(({ index }: { index: number }) => index),
        [0, 1, 2],
      );
      assert.equal(data[0].embedding.length, 8);
      assert.deepEqual(data[0].embedding, data[2].embedding);
      assert.notDeepEqual(data[0].embedding, data[1].embedding);
      assert.deepEqual(usage, { prompt_tokens: 5, total_tokens: 5 });
      assert.deepEqual((await embed({ input: 'a b' })).data[0], data[0]);
    });

    it('as base64 the very same numbers', async () => {
      const asked = { input: 'a', dimensions: 5 };
      const [{ embedding }] = (await embed(asked)).data;
      const [{ embedding: base64 }] = (await embed({ ...asked, encoding_format: 'base64' })).data;
      const bytes = Buffer.from(base64, 'base64');
      assert.equal(bytes.length, 20);
      assert.deepEqual(
        embedding,
        Array.from({ length: 5 }, (_, i) => bytes.readFloatLE(i * 4)),
      );
    });

    it('lists of token numbers too, and never more numbers than a real model has', async () => {
      assert.equal((await embed({ input: [[1, 2], [3]] })).data.length, 2);
      assert.equal((await embed({ input: 'a', dimensions: 1e9 })).data[0].embedding.length, 4096);
    });
  });
});

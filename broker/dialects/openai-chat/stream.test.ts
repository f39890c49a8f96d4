import assert from 'node:assert/strict';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import { SseError } from '../sse.ts';
import { ChatStream } from './stream.ts';

const chunk = (content: string, more: object = {}) =>
  JSON.stringify({ id: 'c1', choices: [{ index: 0, delta: { content } }], ...more });

/** Lets a stream hear these, each as it would stand among others. */
function hear(...all: string[]) {
  const stream = new ChatStream();
  const passed = all.map((data) => {
    const bytes = Buffer.from(`data: ${data}\n\ndata: {"the":"next"}\n\n`);
    return stream.hear(bytes, 6, 6 + Buffer.byteLength(data));
  });
  return { stream, passed };
}

describe('a stream of chat chunks', () => {
  for (const end of ['[DONE]', '[DONE] ', '[DONE]\n', '[DONE]\r']) {
    it(`has ended with ${JSON.stringify(end)}, and takes nothing behind it`, () => {
      const { stream, passed } = hear(chunk('a'), end, chunk('b'), '[DONE]', 'nonsense');
      assert.deepEqual(passed, [true, true, false, false, false]);
      assert.equal(stream.isEnded, true);
    });
  }

  it('has not ended because a model has said so', () => {
    const { stream } = hear(chunk('[DONE]'), chunk('data: [DONE]\n\n'), '{"text":[DONE]}');
    assert.equal(stream.isEnded, false);
  });

  for (const data of [
    '',
    ' ',
    '\n',
    'null',
    '5',
    '"text"',
    '[]',
    '[DONE',
    'DONE]',
    '[DONE]x',
    '[done]',
    '[[DONE]]',
    '[{"a":1}]',
    '{',
    '}',
    '{"a":1',
    '"a":1}',
    '{"a":1}x',
    'x{"a":1}',
    '{"a":1}\n[DONE]',
    '\0{"a":1}',
  ]) {
    it(`breaks off at what is neither a chunk nor the end: ${JSON.stringify(data)}`, () => {
      assert.throws(() => hear(chunk('a'), data), SseError);
    });
  }

  it('takes chunks that stand between spaces, or in several lines', () => {
    const { passed } = hear(' {"a":1}', '{"a":1} ', '\t{"a":1}\t', '{\n"a":1\n}\n', '{}');
    assert.deepEqual(passed, [true, true, true, true, true]);
  });

  describe('into which a provider puts what went wrong', () => {
    const said = (error: object, more: object = {}) => JSON.stringify({ error: { message: 'no', ...error }, ...more });
    const ERRORS: [data: string, code: ErrorCode][] = [
      [said({}), 'upstream_failed'],
      [said({ type: 'server_error' }), 'upstream_failed'],
      [said({ type: 'server_error' }, { id: 'c1' }), 'upstream_failed'],
      [said({ type: 'invalid_request_error' }), 'upstream_refused'],
      [said({ code: 429 }), 'upstream_busy'],
      [said({}).replace('{', '{ '), 'upstream_failed'],
      [said({}).replace(':', ' : '), 'upstream_failed'],
      [JSON.stringify(JSON.parse(said({ type: 'tokens', code: 'rate_limit_exceeded' })), null, 2), 'upstream_busy'],
      ['{"error":{}}', 'upstream_failed'],
      ['{"error":{"type":"invalid_request_error"}}', 'upstream_failed'],
      ['{"error":"overloaded"}', 'upstream_failed'],
      ['{"error":true}', 'upstream_failed'],
      ['{"error":nonsense}', 'upstream_failed'],
    ];
    for (const [data, code] of ERRORS) {
      it(`throws ${code} for ${data.replace(/\s+/g, ' ')}`, () => {
        assert.throws(
          () => hear(chunk('a'), data),
          (error) => error instanceof ApiError && error.code === code,
        );
      });
    }

    for (const data of [
      '{"error":null,"choices":[]}',
      '{"e":1}',
      '{"errors":[]}',
      '{"event":"a"}',
      '{"error_code":0}',
      chunk('{"error":{"message":"no"}}'),
      chunk('a', { error: null }),
    ]) {
      it(`hears no error in ${data}`, () => {
        assert.deepEqual(hear(data).passed, [true]);
      });
    }
  });

  describe('tells what it used:', () => {
    const usage = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 };
    const known = { inputTokens: 7, outputTokens: 3, isEstimated: false };
    const counted = (outputTokens: number) => ({ outputTokens, isEstimated: true });

    for (const [what, chunks, used] of [
      ['as its last chunk says', [chunk('a'), chunk('b'), chunk('', { usage }), '[DONE]'], known],
      ['as its last chunk says, before it has ended', [chunk('a'), chunk('', { usage })], known],
      [
        'as the chunk says that is the latest',
        [chunk('a', { usage: { ...usage, completion_tokens: 1 } }), chunk('b', { usage })],
        known,
      ],
      ['one token an event, where nothing is said', [chunk('a'), chunk('b'), chunk('c'), '[DONE]'], counted(3)],
      [
        'one token an event, where null is said',
        [chunk('a', { usage: null }), chunk('b', { usage: null })],
        counted(2),
      ],
      ['one token an event, where it broke off', [chunk('a', { usage }), chunk('b', { usage: null })], counted(2)],
      ['nothing, before the first event', [], counted(0)],
      ['nothing, where the end is all', ['[DONE]'], counted(0)],
      [
        'nothing that a model has said of it',
        [chunk('{"usage":{"prompt_tokens":0,"completion_tokens":0}}'), chunk('"usage":{"prompt_tokens":1}')],
        counted(2),
      ],
    ] as const) {
      it(what, () => assert.deepEqual(hear(...chunks).stream.usage(), used));
    }
  });
});

import assert from 'node:assert/strict';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import { readErrorBody, readUpstreamError, writeError, writeStreamError } from './errors.ts';

function refusal(status: number, body: unknown, retryAfter?: string): ApiError {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return readUpstreamError({ status, retryAfter, body: Buffer.from(text) });
}

describe('an error, written as OpenAI writes it', () => {
  it('has a null where it is about no field, and the request id where there is one', () => {
    assert.deepEqual(JSON.parse(writeError(new ApiError('signature_required'), undefined)), {
      error: {
        message: new ApiError('signature_required').message,
        type: 'authentication_error',
        param: null,
        code: 'signature_required',
      },
    });
    assert.equal(JSON.parse(writeError(new ApiError('signature_required'), 'req_1')).error.request_id, 'req_1');
  });

  it('carries the provider’s own code where it was about the caller’s mistake', () => {
    const error = refusal(400, { error: { message: 'too long', param: 'messages', code: 'context_length_exceeded' } });
    const { message, param, code, type } = JSON.parse(writeError(error, undefined)).error;
    assert.equal(message, 'The model provider refused the request: too long');
    assert.deepEqual([param, code, type], ['messages', 'context_length_exceeded', 'invalid_request_error']);
  });

  it('is one line, whatever a provider says', () => {
    const text = writeError(refusal(400, { error: { message: 'a\r\n\r\nevent: done\ndata: x' } }), 'req_1');
    assert.doesNotMatch(text, /[\r\n]/);
    assert.doesNotMatch(JSON.parse(text).error.message, /[\r\n]/);
  });

  it('is an event of its own in a stream', () => {
    const error = refusal(400, { error: { message: 'a\n\ndata: x', param: 'a\n\ndata: x' } });
    assert.equal(writeStreamError(error, 'req_1'), `event: error\ndata: ${writeError(error, 'req_1')}\n\n`);
    assert.equal(writeStreamError(error, 'req_1').split('\n').length, 4);
  });
});

describe('a refusal of a provider', () => {
  for (const code of ['a'.repeat(65), 'two words', 'x\ny', '', 5, null, { a: 1 }]) {
    it(`keeps its status and loses the code ${JSON.stringify(code)?.slice(0, 20)}`, () => {
      const error = refusal(422, { error: { message: 'no', code } });
      assert.deepEqual([error.status, error.upstreamCode], [422, undefined]);
      assert.equal(JSON.parse(writeError(error, undefined)).error.code, 'upstream_refused');
    });
  }

  for (const body of [
    '',
    'no',
    '[]',
    '{}',
    'null',
    '5',
    '{"error":"no"}',
    '{"error":null}',
    '{"error":{"message":5}}',
    '{"error":',
  ]) {
    it(`says nothing when there is nothing in it that a caller could use: ${body}`, () => {
      const error = refusal(400, body);
      assert.deepEqual([error.code, error.status], ['upstream_failed', 502]);
      assert.match(String(error.cause), /upstream answered 400/);
    });
  }

  for (const status of [301, 401, 402, 403, 418, 500, 503]) {
    it(`is between the provider and us when it is a ${status}`, () => {
      const error = refusal(status, { error: { message: 'the key sk-vendor is wrong', param: 'p', code: 'c' } });
      assert.deepEqual(
        [error.code, error.status, error.param, error.upstreamCode],
        ['upstream_failed', 502, undefined, undefined],
      );
      assert.doesNotMatch(error.message, /sk-vendor/);
    });
  }

  it('cuts what is long', () => {
    assert.ok(refusal(400, { error: { message: 'x'.repeat(60_000) } }).message.length < 300);
  });

  for (const said of ['20', '0', '999999', 'Wed, 21 Oct 2026 07:28:00 GMT']) {
    it(`passes on how long to wait: ${said}`, () => {
      assert.deepEqual(refusal(429, '', said).headers, { 'retry-after': said });
    });
  }

  for (const said of [
    undefined,
    '',
    ' ',
    '-1',
    '1.5',
    '1e3',
    '1234567',
    '20 seconds',
    '20, 30',
    '20\r\nset-cookie: a=b',
    '20\n',
    'soon',
    'Wed, 21 Oct 2026 07:28:00',
    'Wednesday, 21-Oct-26 07:28:00 GMT',
  ]) {
    it(`passes on nothing that is no time to wait: ${JSON.stringify(said)}`, () => {
      assert.deepEqual(refusal(429, '', said).headers, {});
    });
  }

  it('passes on how long to wait for a busy provider alone', () => {
    for (const status of [400, 500, 503]) assert.deepEqual(refusal(status, '', '20').headers, {});
  });
});

describe('an error that a provider puts into its stream', () => {
  const read = (body: unknown) => readErrorBody(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)));
  const KINDS: [error: object, code: ErrorCode, status: number][] = [
    [{ type: 'rate_limit_error' }, 'upstream_busy', 429],
    [{ type: 'tokens', code: 'rate_limit_exceeded' }, 'upstream_busy', 429],
    [{ type: 'insufficient_quota', code: 'insufficient_quota' }, 'upstream_busy', 429],
    [{ code: 429 }, 'upstream_busy', 429],
    [{ type: 'invalid_request_error', code: 'rate_limit_exceeded' }, 'upstream_busy', 429],
    [{ type: 'invalid_request_error' }, 'upstream_refused', 400],
    [{ type: 'invalid_request_error', code: 'context_length_exceeded' }, 'upstream_refused', 400],
    [{ code: 'content_filter' }, 'upstream_refused', 400],
    [{ type: 'BadRequestError', code: 400 }, 'upstream_refused', 400],
    [{ type: 'server_error' }, 'upstream_failed', 502],
    [{ type: 'server_error', code: 'model_error' }, 'upstream_failed', 502],
    [{ code: 502 }, 'upstream_failed', 502],
    [{ code: 4290 }, 'upstream_failed', 502],
    [{ code: 14_000 }, 'upstream_failed', 502],
    [{ type: null, code: null }, 'upstream_failed', 502],
    [{ type: { a: 1 }, code: ['x'] }, 'upstream_failed', 502],
    [{}, 'upstream_failed', 502],
  ];
  for (const [kind, code, status] of KINDS) {
    it(`is a ${status} ${code} when it is ${JSON.stringify(kind)}`, () => {
      const error = read({ error: { message: 'the key sk-vendor0 ran dry', ...kind } });
      assert.deepEqual([error?.code, error?.status], [code, status]);
      assert.doesNotMatch(error!.message, /sk-vendor0/);
      if (code !== 'upstream_refused') assert.doesNotMatch(error!.message, /ran dry/);
    });
  }

  it('keeps the words, the field and the code of what the caller did wrong', () => {
    const said = {
      message: 'too long',
      type: 'invalid_request_error',
      param: 'messages',
      code: 'context_length_exceeded',
    };
    const error = read({ error: said });
    assert.equal(error?.message, 'The model provider refused the request: too long');
    assert.deepEqual([error?.param, error?.upstreamCode], ['messages', 'context_length_exceeded']);
  });

  for (const body of [
    '',
    '{',
    'null',
    '{}',
    '{"error":null}',
    '{"error":"no"}',
    '{"error":{}}',
    '{"error":{"message":1}}',
  ]) {
    it(`is none in ${body || 'nothing'}`, () => assert.equal(read(body), undefined));
  }
});

describe('what a provider says of us', () => {
  const shown = (message: string) =>
    refusal(400, { error: { message } }).message.replace('The model provider refused the request: ', '');

  for (const [message, left] of [
    ['Incorrect API key provided: sk-proj-Ab1_x.', 'Incorrect API key provided: [hidden].'],
    ['Incorrect key sk-abc***************wxyz', 'Incorrect key [hidden]'],
    ['the key sk_live_0123456789 and pk-0123456', 'the key [hidden] and [hidden]'],
    ['gsk_0123456789abcdef is not known', '[hidden] is not known'],
    ['"xai-0123456789abcdef"', '"[hidden]"'],
    ['org-AbCdEfGhIjKl has no access', '[hidden] has no access'],
    ['Project `proj_AbCdEfGh1` does not have it', 'Project `[hidden]` does not have it'],
    ['key=AIzaSyA-0123456789_abcdef', 'key=[hidden]'],
    ['Authorization: Bearer abc.def-0123', 'Authorization: [hidden]'],
    ['Bearer eyJhbGciOiJIUzI1NiJ9', '[hidden]'],
  ] as const) {
    it(`is hidden: ${message}`, () => assert.equal(shown(message), left));
  }

  for (const message of [
    'sk-learn is not a model',
    'an org-wide limit, a proj-like name and a pk-first table',
    'the task-1234567 is at risk-level-12345',
    'disk_0123456 and desk-0123456',
    'Missing bearer authentication, or a Bearer token',
    'Bearer authentication is needed',
    'AIza is how Google begins its keys',
    'org-1 and sk-2',
    'This model’s maximum context length is 128000 tokens.',
  ]) {
    it(`is left alone: ${message}`, () => assert.equal(shown(message), message));
  }

  it('is hidden before it is cut, so that no half of it is left', () => {
    const message = `${'x'.repeat(190)} sk-0123456789abcdef`;
    assert.doesNotMatch(shown(message), /sk-/);
  });
});

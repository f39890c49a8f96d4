import assert from 'node:assert/strict';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { readUpstreamError, writeError } from './errors.ts';

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

  it('passes on how long to wait', () => {
    assert.deepEqual(refusal(429, '', '20').headers, { 'retry-after': '20' });
    assert.deepEqual(refusal(429, '').headers, {});
  });
});

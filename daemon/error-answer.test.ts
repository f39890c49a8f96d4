import assert from 'node:assert/strict';
import { DOOR_ERRORS, DoorError, type DoorErrorCode } from './door-errors.ts';
import { asDoorError, writeError, writeStreamError } from './error-answer.ts';

describe('an error of the door', () => {
  const error = new DoorError('token_missing');

  it('is OpenAI’s for OpenAI’s clients', () => {
    assert.deepEqual(JSON.parse(writeError(error, 'openai')), {
      error: { message: error.message, type: 'authentication_error', param: null, code: 'token_missing' },
    });
  });

  it('is Anthropic’s for Anthropic’s', () => {
    assert.deepEqual(JSON.parse(writeError(error, 'anthropic')), {
      type: 'error',
      error: { type: 'authentication_error', message: error.message },
    });
  });

  it('is Google’s for Google’s', () => {
    assert.deepEqual(JSON.parse(writeError(error, 'google')), {
      error: { code: 401, message: error.message, status: 'UNAUTHENTICATED' },
    });
  });

  it('has a name as an event of a stream, but for Google', () => {
    assert.match(writeStreamError(error, 'openai'), /^event: error\ndata: \{"error":\{.*\}\}\n\n$/);
    assert.match(writeStreamError(error, 'anthropic'), /^event: error\ndata: \{"type":"error".*\}\n\n$/);
    assert.match(writeStreamError(error, 'google'), /^data: \{"error":\{"code":401.*\}\}\n\n$/);
  });

  it('says what to do, in one sentence of one line, and nothing of this machine', () => {
    for (const code of Object.keys(DOOR_ERRORS) as DoorErrorCode[]) {
      const { says, status } = DOOR_ERRORS[code];
      assert.match(says, /^[A-Z{].*\.$/, code);
      assert.ok(status >= 400 && status < 600);
      if (status < 500) assert.doesNotMatch(says, /\{(?:pid|user|device|version|host)\}/, code);
    }
  });

  it('keeps its own words when it was not meant for the caller', () => {
    const shown = asDoorError(new Error('EACCES /home/somebody/secret'));
    assert.equal(shown.code, 'internal');
    for (const dialect of ['openai', 'anthropic', 'google'] as const) {
      assert.doesNotMatch(writeError(shown, dialect), /EACCES|somebody/);
    }
  });

  it('cuts what comes from elsewhere to one short line', () => {
    const { message } = new DoorError('broker_garbled', { facts: { why: `a\r\nb${'x'.repeat(1000)}` } });
    assert.match(message, /ab/);
    assert.ok(message.length < 600);
  });
});

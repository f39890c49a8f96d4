import assert from 'node:assert/strict';
import { IdentityError } from './identity-error.ts';

describe('an error of the identity', () => {
  it('shows what a broker says as one line, which cannot write over the terminal', () => {
    const message = `\u001b[2Jgo to\r\n evil\u202e.example ${'x'.repeat(1000)}`;
    const error = new IdentityError('broker_refused', { message, code: 'invite_used' });
    assert.match(error.message, /^\[2Jgo to evil\.example x+$/);
    assert.equal(error.message.length, 400);
    assert.deepEqual([error.code, error.brokerCode, error.exitCode], ['broker_refused', 'invite_used', 1]);
  });

  it('has the exit code that scripts know, and what to do next', () => {
    assert.equal(new IdentityError('not_enrolled').exitCode, 3);
    assert.equal(new IdentityError('code_malformed').exitCode, 2);
    assert.match(new IdentityError('locked', { why: 'no answer' }).message, /\(no answer\); unlock/);
  });
});

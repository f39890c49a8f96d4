import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { ApiError, ERRORS, type ErrorCode } from './errors.ts';

describe('ApiError', () => {
  it('says what to do in every sentence that a caller can mend', () => {
    for (const [code, { says }] of Object.entries(ERRORS)) {
      assert.match(says, /[.}]$/, `${code} is a sentence`);
      assert.doesNotMatch(says, /undefined|null|\b(?:error|status) code\b/i, code);
    }
  });

  it('fills in the facts', () => {
    const error = new ApiError('product_unknown', { facts: { product: 'product-z' } });
    assert.equal(error.message, 'There is no product product-z for this key; check the spelling, or ask for access.');
    assert.equal(error.status, 404);
  });

  it('keeps doubled braces as they are meant', () => {
    const error = new ApiError('route_unknown', { facts: { method: 'GET', path: '/x' } });
    assert.match(error.message, /\/p\/\{product\}\/v1/);
  });

  it('does not let a fact break the line or grow without end', () => {
    const error = new ApiError('product_unknown', { facts: { product: `a\r\n${'b'.repeat(5000)}` } });
    assert.doesNotMatch(error.message, /[\r\n]/);
    assert.ok(error.message.length < 400);
  });

  it('refuses to be thrown without a fact that its sentence needs', () => {
    assert.throws(() => new ApiError('product_unknown'), TypeError);
  });

  it('has for every code a status that an HTTP client knows', () => {
    for (const code of Object.keys(ERRORS) as ErrorCode[]) assert.ok(ERRORS[code].status >= 400, code);
  });

  it('is listed in docs/protocol.md, with its status and its sentence, and no code is there that is not here', () => {
    const rows = readFileSync('docs/protocol.md', 'utf8').matchAll(
      /^\| `(\w+)` +\| (\d+) +\| `(\w+)` +\| (.*?) +\|$/gm,
    );
    const listed = Object.fromEntries(
      Array.from(rows, ([, code, status, type, says]) => [code, { status: Number(status), type, says }]),
    );
    assert.deepEqual(listed, ERRORS);
  });
});

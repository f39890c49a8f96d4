import assert from 'node:assert/strict';
import { AnswerReader } from './answer-reader.ts';

const FIXED = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello';
const CHUNKED =
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhe\r\nll\r\nA;x=y\r\no, world!\n\r\n0\r\n\r\n';
const REFUSED = 'HTTP/1.1 401 Unauthorized\r\ncontent-length: 3\r\n\r\nno!';

describe('the reader of answers', () => {
  for (const [name, wire, status, body] of [
    ['a fixed length', FIXED, 200, 'hello'],
    ['chunks', CHUNKED, 200, 'he\r\nllo, world!\n'],
    ['a refusal', REFUSED, 401, 'no!'],
  ] as const) {
    it(`reads ${name}, wherever the bytes are split`, () => {
      const bytes = Buffer.from(wire);
      for (let split = 1; split < bytes.length; split++) {
        const reader = new AnswerReader(true);
        for (const part of [bytes.subarray(0, split), bytes.subarray(split)]) {
          assert.equal(reader.complete, false);
          reader.read(part, part.length);
        }
        assert.equal(reader.complete, true);
        assert.deepEqual([reader.status, reader.body, reader.bodyBytes], [status, body, body.length]);
      }
    });
  }

  it('reads a second answer after a reset', () => {
    const reader = new AnswerReader(false);
    for (const wire of [CHUNKED, FIXED]) {
      reader.reset();
      reader.read(Buffer.from(wire), wire.length);
      assert.equal(reader.complete, true);
    }
    assert.equal(reader.bodyBytes, 5);
  });

  it('keeps the body of a refusal, to show why', () => {
    const reader = new AnswerReader(false);
    reader.read(Buffer.from(REFUSED), REFUSED.length);
    assert.equal(reader.body, 'no!');
  });

  it('is not complete while a stream lacks its last chunk', () => {
    const reader = new AnswerReader(false);
    const cut = CHUNKED.slice(0, -5);
    reader.read(Buffer.from(cut), cut.length);
    assert.equal(reader.complete, false);
  });

  for (const [name, wire] of [
    ['bytes after the end', `${FIXED}more`],
    ['a chunk without a size', CHUNKED.replace('A;x=y', 'zz')],
    ['an answer without a length', 'HTTP/1.1 200 OK\r\nx: y\r\n\r\n'],
  ] as const) {
    it(`refuses ${name}`, () => {
      assert.throws(() => new AnswerReader(false).read(Buffer.from(wire), wire.length));
    });
  }
});

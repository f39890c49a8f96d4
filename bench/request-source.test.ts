import assert from 'node:assert/strict';
import { type Ask, plainSource } from './request-source.ts';

const SIZES: readonly (readonly [name: string, ask: Ask, bytes: number])[] = [
  ['a small request', { stream: false }, 1024],
  ['a stream', { stream: true, events: 50, paceMs: 1 }, 1024],
  ['a megabyte', { stream: false, bodyBytes: 1_000_000 }, 1_000_000],
  ['a megabyte and a byte', { stream: false, bodyBytes: 1_000_001 }, 1_000_001],
];

describe('the source of requests', () => {
  for (const [name, ask, bytes] of SIZES) {
    it(`makes ${name} of exactly ${bytes} bytes of JSON`, () => {
      const { declared, body } = split(plainSource(ask, 80, {}).next());
      assert.deepEqual([declared, body.length], [bytes, bytes]);
      JSON.parse(body.toString());
    });
  }

  it('fills a megabyte with text of which a part is not ASCII', () => {
    const { body } = split(plainSource({ stream: false, bodyBytes: 1_000_000 }, 80, {}).next());
    const beyondAscii = body.filter((byte) => byte > 127).length / body.length;
    assert.ok(beyondAscii > 0.1 && beyondAscii < 0.5, `${beyondAscii}`);
    assert.ok(Buffer.from(body.toString()).equals(body), 'it is valid UTF-8');
  });
});

function split(request: Buffer): { declared: number; body: Buffer } {
  const end = request.indexOf('\r\n\r\n');
  const declared = /^Content-Length: (\d+)/m.exec(request.toString('latin1', 0, end))?.[1];
  return { declared: Number(declared), body: request.subarray(end + 4) };
}

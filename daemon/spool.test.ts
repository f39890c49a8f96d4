import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { DoorError } from './door-errors.ts';
import { emptySpool, readBody, spool } from './spool.ts';

describe('a body on its way into a signature', () => {
  let folder: string;
  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'sallyport-spool-'))));
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const LIMITS = { bytes: 1000, deadlineMs: 5_000 };
  const refused = (code: string) => (error: unknown) => error instanceof DoorError && error.code === code;
  const place = () => ({ folder, random: randomBytes });

  /** What a request is to its reader. */
  function arriving(pieces: Buffer[], { end = true, headers = {} } = {}): IncomingMessage & PassThrough {
    const stream = Object.assign(new PassThrough(), { headers });
    for (const piece of pieces) stream.write(piece);
    if (end) stream.end();
    return stream as unknown as IncomingMessage & PassThrough;
  }

  const WAYS: [way: string, read: (request: IncomingMessage, limits?: typeof LIMITS) => Promise<Buffer>][] = [
    ['memory', (request, limits = LIMITS) => readBody(request, limits)],
    [
      'a file',
      async (request, limits = LIMITS) => {
        const { file, length, digest, remove } = await spool(request, limits, place());
        const bytes = readFileSync(file);
        assert.equal(length, bytes.length);
        assert.equal(digest, `sha-256=:${createHash('sha256').update(bytes).digest('base64')}:`);
        assert.equal(statSync(file).mode & 0o777, 0o600);
        await remove();
        return bytes;
      },
    ],
  ];
  for (const [way, read] of WAYS) {
    it(`is read whole into ${way}, in whatever pieces it comes`, async () => {
      const body = randomBytes(1000);
      for (const size of [1, 7, 333, 1000]) {
        const pieces = Array.from({ length: Math.ceil(1000 / size) }, (_, n) =>
          body.subarray(n * size, (n + 1) * size),
        );
        assert.deepEqual(await read(arriving(pieces)), body);
      }
      assert.deepEqual(await read(arriving([])), Buffer.alloc(0));
      assert.deepEqual(readdirSync(folder), []);
    });

    it(`is refused at one byte more than the limit, and nothing stays of it (${way})`, async () => {
      await assert.rejects(read(arriving([randomBytes(1001)])), refused('body_too_large'));
      await assert.rejects(
        read(arriving([randomBytes(600), randomBytes(401)], { end: false })),
        refused('body_too_large'),
      );
      await assert.rejects(read(arriving([], { headers: { 'content-length': '1001' } })), refused('body_too_large'));
      assert.deepEqual(readdirSync(folder), []);
    });

    it(`is given up when it does not come in time (${way})`, async () => {
      await assert.rejects(
        read(arriving([randomBytes(5)], { end: false }), { bytes: 1000, deadlineMs: 30 }),
        refused('request_slow'),
      );
      assert.deepEqual(readdirSync(folder), []);
    });

    it(`is given up when its sender leaves (${way})`, async () => {
      const request = arriving([randomBytes(5)], { end: false });
      setTimeout(() => request.destroy(), 20);
      await assert.rejects(read(request), refused('body_incomplete'));
      assert.deepEqual(readdirSync(folder), []);
    });

    it(`is refused in crumbs (${way})`, async () => {
      const request = arriving([], { end: false });
      request.on('drain', () => request.write('x'));
      let count = 0;
      // One byte for each read: what a sender does who wants to cost much.
      request.read = () => (count++ < 200_000 ? Buffer.from('x') : null);
      await assert.rejects(read(request, { bytes: 1_000_000, deadlineMs: 20_000 }), refused('body_crumbled'));
    });
  }

  it('never follows a link that somebody laid in its place', async () => {
    const target = join(folder, 'target');
    const random = () => Buffer.alloc(16, 7);
    symlinkSync(target, join(folder, `upload-${'07'.repeat(16)}`));
    await assert.rejects(spool(arriving([randomBytes(5)]), LIMITS, { folder, random }), { code: 'EEXIST' });
    assert.equal(existsSync(target), false);
  });

  it('leaves nothing for ever: what a killed daemon left is removed at the next start, and nothing else', async () => {
    writeFileSync(join(folder, `upload-${'0'.repeat(32)}`), 'x');
    writeFileSync(join(folder, 'notes'), 'x');
    await emptySpool(folder);
    assert.deepEqual(readdirSync(folder), ['notes']);
  });
});

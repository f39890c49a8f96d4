import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readdir, rm, type FileHandle } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { DoorError } from './door-errors.ts';

type Limits = { bytes: number; deadlineMs: number };

/** An upload in its file, which has to be removed. The digest is a value for Content-Digest. */
export type Spooled = { file: string; length: number; digest: string; remove: () => Promise<void> };

// Every piece costs about a microsecond, be it one byte; the largest usual body comes in some hundreds.
const MOST_PIECES = 100_000;

const NAME = /^upload-[0-9a-f]{32}$/;

/** Reads a body into memory, counting as it arrives: a length that was announced is a claim, not a fact. */
export async function readBody(request: IncomingMessage, limits: Limits): Promise<Buffer> {
  const pieces: Buffer[] = [];
  await eachPiece(request, limits, (piece) => void pieces.push(piece));
  return Buffer.concat(pieces);
}

/**
 * Writes an upload to a file while it is hashed: a signature covers the digest of the whole and stands in front of the first
 * byte, and a film of many megabytes has no place in memory. Only this user can read the file, and it lives as long as its
 * request.
 */
export async function spool(
  request: IncomingMessage,
  limits: Limits,
  { folder, random }: { folder: string; random: (bytes: number) => Buffer },
): Promise<Spooled> {
  const file = join(folder, `upload-${random(16).toString('hex')}`);
  const { O_CREAT, O_EXCL, O_WRONLY, O_NOFOLLOW } = constants;
  const handle = await open(file, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0o600);
  const remove = () => rm(file, { force: true });
  try {
    const digest = createHash('sha256');
    let length = 0;
    await eachPiece(request, limits, (piece) => {
      digest.update(piece);
      length += piece.length;
      return writeWhole(handle, piece);
    });
    return { file, length, digest: `sha-256=:${digest.digest('base64')}:`, remove };
  } catch (error) {
    await remove();
    throw error;
  } finally {
    await handle.close();
  }
}

/** Removes what a daemon that was killed left behind. */
export async function emptySpool(folder: string): Promise<void> {
  for (const name of await readdir(folder)) if (NAME.test(name)) await rm(join(folder, name), { force: true });
}

async function writeWhole(handle: FileHandle, piece: Buffer): Promise<void> {
  for (let rest = piece; rest.length > 0;) {
    const { bytesWritten } = await handle.write(rest);
    rest = rest.subarray(bytesWritten);
  }
}

async function eachPiece(
  request: IncomingMessage,
  { bytes: limit, deadlineMs }: Limits,
  take: (piece: Buffer) => void | Promise<void>,
): Promise<void> {
  const tooLarge = new DoorError('body_too_large', { facts: { limit } });
  if (Number(request.headers['content-length'] ?? 0) > limit) throw tooLarge;
  let length = 0;
  let count = 0;
  let isLate = false;
  let wake = () => {};
  // Whoever lets a body trickle would otherwise hold the memory for as long as they like.
  const timer = setTimeout(() => {
    isLate = true;
    wake();
  }, deadlineMs);
  try {
    // By hand, and not with `for await`: that destroys the request when it is left early, and the refusal with it.
    for (;;) {
      if (isLate) throw new DoorError('request_slow');
      const piece = request.read() as Buffer | null;
      if (piece !== null) {
        length += piece.length;
        count++;
        if (length > limit) throw tooLarge;
        if (count > MOST_PIECES) throw new DoorError('body_crumbled', { facts: { pieces: MOST_PIECES } });
        await take(piece);
        continue;
      }
      if (request.readableEnded) return;
      if (request.destroyed) throw new DoorError('body_incomplete');
      await new Promise<void>((resolve) => {
        wake = resolve;
        request.once('readable', resolve).once('end', resolve).once('close', resolve);
      });
      request.off('readable', wake).off('end', wake).off('close', wake);
    }
  } finally {
    clearTimeout(timer);
  }
}

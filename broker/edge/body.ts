import type { IncomingMessage, ServerResponse } from 'node:http';
import { digestMatches } from '@sallyport/protocol/content-digest.ts';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import { readOutline } from '../dialects/json-gate.ts';
import type { JsonOutline } from '../dialects/json-outline.ts';
import { Pieces } from './pieces.ts';

/** The body as it arrived, whole; nobody has said yet that it is the one that was meant. */
export type WithReceived = { received: Buffer };

/** The body that was signed. No later stage sees any other. */
export type WithBody = { body: Buffer };

/** The body as JSON that every reader reads alike. */
export type WithJson = { json: JsonOutline };

type Framed = { fields: ReadonlyMap<string, string>; hasContent: boolean };
type Exchange = Framed & { request: IncomingMessage; response: ServerResponse };

// Every piece costs about a microsecond, be it one byte: in crumbs, one body of the largest size would keep the broker busy
// for half a minute. The largest that is usual comes in 18,000, one for each TCP segment.
const MOST_PIECES = 100_000;

type Limits = { bytes: number; deadlineMs: number };

/**
 * Reads the whole body, counting as it arrives: a length that was announced is a claim, not a fact. Its time begins here,
 * when the sender has proven itself; whoever lets it trickle would otherwise hold the memory for minutes.
 */
export function readBody(limits: Limits) {
  return async ({ request, response, fields, hasContent }: Exchange): Promise<WithReceived> => {
    if (!hasContent) throw new ApiError('body_missing');
    if (fields.has('content-encoding')) throw new ApiError('body_encoded');
    if (Number(fields.get('content-length') ?? 0) > limits.bytes) throw tooLarge(limits.bytes);
    // Whoever waits for leave to send has passed every check that needs the headers alone. HTTP/1.0 knows no such leave.
    if (fields.has('expect') && request.httpVersion === '1.1') response.writeContinue();
    return { received: await collect(request, limits) };
  };
}

function collect(request: IncomingMessage, { bytes: limit, deadlineMs }: Limits): Promise<Buffer> {
  return new Promise<Buffer>((resolve, reject) => {
    // Who left before we began to listen is not heard leaving.
    if (request.destroyed && !request.readableEnded) return reject(new ApiError('body_incomplete'));
    let pieces = new Pieces();
    const giveUp = (error: ApiError) => {
      clearTimeout(timer);
      request.off('data', add).pause();
      pieces = new Pieces();
      reject(error);
    };
    const timer = setTimeout(() => giveUp(new ApiError('request_timeout')), deadlineMs);
    const add = (piece: Buffer) => {
      pieces.add(piece);
      if (pieces.length > limit) giveUp(tooLarge(limit));
      if (pieces.count > MOST_PIECES) giveUp(new ApiError('body_crumbled', { facts: { pieces: MOST_PIECES } }));
    };
    request.on('data', add);
    request.on('end', () => {
      clearTimeout(timer);
      resolve(pieces.join());
    });
    // Every request closes in the end, whole or not; an error object for each of them would cost more than the signature.
    request.on('close', () => {
      if (!request.readableEnded) giveUp(new ApiError('body_incomplete'));
    });
    request.on('error', (cause) => giveUp(new ApiError('body_incomplete', { cause })));
  });
}

/** A signature covers the digest, not the body: only this comparison ties the two together. */
export function checkDigest({ fields, received }: { fields: ReadonlyMap<string, string> } & WithReceived): WithBody {
  const digest = fields.get(HEADER.contentDigest);
  if (digest !== undefined && !digestMatches(digest, received)) throw new ApiError('digest_mismatch');
  return { body: received };
}

const JSON_TYPE = /^application\/json(?:\s*;\s*charset="?utf-8"?)?\s*$/i;

/** Opens the JSON gate: from here on the body may be read, and may be forwarded byte for byte. */
export function readJson({ fields, body }: { fields: ReadonlyMap<string, string> } & WithBody): WithJson {
  if (!JSON_TYPE.test(fields.get(HEADER.contentType) ?? '')) throw new ApiError('content_type_unsupported');
  return { json: readOutline(body) };
}

function tooLarge(limit: number): ApiError {
  return new ApiError('body_too_large', { facts: { limit } });
}

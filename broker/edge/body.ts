import type { IncomingMessage, ServerResponse } from 'node:http';
import { digestMatches } from '@sallyport/protocol/content-digest.ts';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import { readOutline } from '../dialects/json-gate.ts';
import type { JsonOutline } from '../dialects/json-outline.ts';

/** The body as it arrived, whole; nobody has said yet that it is the one that was meant. */
export type WithReceived = { received: Buffer };

/** The body that was signed. No later stage sees any other. */
export type WithBody = { body: Buffer };

/** The body as JSON that every reader reads alike. */
export type WithJson = { json: JsonOutline };

type Framed = { fields: ReadonlyMap<string, string>; hasContent: boolean };
type Exchange = Framed & { request: IncomingMessage; response: ServerResponse };

/** Reads the whole body, counting as it arrives: a length that was announced is a claim, not a fact. */
export function readBody(limit: number) {
  return async ({ request, response, fields, hasContent }: Exchange): Promise<WithReceived> => {
    if (!hasContent) throw new ApiError('body_missing');
    if (fields.has('content-encoding')) throw new ApiError('body_encoded');
    if (Number(fields.get('content-length') ?? 0) > limit) throw tooLarge(limit);
    // Whoever waits for leave to send has passed every check that needs the headers alone.
    if (fields.has('expect')) response.writeContinue();
    return { received: await collect(request, limit) };
  };
}

function collect(request: IncomingMessage, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // Who left before we began to listen is not heard leaving.
    if (request.destroyed && !request.readableEnded) return reject(new ApiError('body_incomplete'));
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > limit) {
        request.pause();
        reject(tooLarge(limit));
      } else {
        chunks.push(chunk);
      }
    });
    request.on('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length)));
    // Every request closes in the end, whole or not; an error object for each of them would cost more than the signature.
    request.on('close', () => {
      if (!request.readableEnded) reject(new ApiError('body_incomplete'));
    });
    request.on('error', (cause) => reject(new ApiError('body_incomplete', { cause })));
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

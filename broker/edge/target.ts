import type { IncomingMessage } from 'node:http';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER, OUR_PREFIX } from '@sallyport/protocol/headers.ts';

/** What was asked for, read from the raw request line and raw headers and from nothing that has been normalised. */
export type WithTarget = {
  method: string;
  path: string;
  /** `?` and what follows, or the empty string. */
  query: string;
  /** Header fields by lower-case name. */
  fields: ReadonlyMap<string, string>;
  hasContent: boolean;
};

// No percent sign: front ends decode some of them before we see the path (Cloud Run turns %41 into A), so a path with
// one in it is not the same path to everyone who reads it.
const PATH = /^\/[A-Za-z0-9._~:@!$&'()*+,;=/-]*$/;
const QUERY = /^\?(?:[A-Za-z0-9._~:@!$&'()*+,;=/?[\]-]|%[0-9A-F]{2})+$/;
const DOT_SEGMENT = /\/\.{1,2}(?:\/|$)/;

// Node keeps the first of two equal headers for some names and joins them for others; a front end may do the reverse.
const SENT_ONCE = new Set<string>([
  'host',
  'authorization',
  'content-length',
  'content-encoding',
  HEADER.contentType,
  HEADER.contentDigest,
  HEADER.idempotencyKey,
  HEADER.signature,
  HEADER.signatureInput,
]);

const WITHOUT_BODY = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE']);

/** The first stage: a request that two readers could read in two ways goes no further. */
export function readTarget({ request }: { request: IncomingMessage }): WithTarget {
  const method = request.method ?? '';
  const { path, query } = splitTarget(request.url ?? '');
  const fields = readFields(request.rawHeaders);
  const hasContent = fields.has('transfer-encoding') || (fields.get('content-length') ?? '0') !== '0';
  if (hasContent && WITHOUT_BODY.has(method)) throw new ApiError('body_unexpected', { facts: { method } });
  return { method, path, query, fields, hasContent };
}

function splitTarget(target: string): { path: string; query: string } {
  if (!target.startsWith('/')) throw malformed('it must begin with a slash, without scheme or host');
  const at = target.indexOf('?');
  const path = at === -1 ? target : target.slice(0, at);
  const query = at === -1 ? '' : target.slice(at);
  if (path.includes('%')) throw malformed('percent-encoding in the path is read differently by different front ends');
  if (path.includes('//')) throw malformed('the path has an empty segment');
  if (DOT_SEGMENT.test(path)) throw malformed('the path has a dot segment');
  if (!PATH.test(path)) throw malformed('the path has a character that does not belong there');
  if (query === '?') throw malformed('it ends in a question mark with nothing behind it');
  if (query !== '' && !QUERY.test(query)) throw malformed('the query has a character that must be percent-encoded');
  return { path, query };
}

function readFields(rawHeaders: readonly string[]): Map<string, string> {
  const fields = new Map<string, string>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    const value = rawHeaders[i + 1]!;
    const earlier = fields.get(name);
    if (earlier === undefined) {
      fields.set(name, value);
    } else if (SENT_ONCE.has(name) || name.startsWith(OUR_PREFIX)) {
      throw new ApiError('header_repeated', { facts: { header: name } });
    } else {
      fields.set(name, `${earlier}, ${value}`);
    }
  }
  return fields;
}

function malformed(why: string): ApiError {
  return new ApiError('target_malformed', { facts: { why } });
}

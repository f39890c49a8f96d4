import type { IncomingMessage } from 'node:http';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
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
const ONE_SPELLING_OF_LENGTH = /^(?:0|[1-9]\d*)$/;

/** The first stage: a request that two readers could read in two ways goes no further. */
export function readTarget({ request }: { request: IncomingMessage }): WithTarget {
  const { method = '', url = '', httpVersion } = request;
  if (httpVersion !== '1.1' && httpVersion !== '1.0') throw refused('http_version_unsupported');
  const { path, query } = splitTarget(url);
  const fields = readFields(request.rawHeaders);
  if (httpVersion === '1.1' && !fields.has('host')) throw refused('request_malformed');
  checkConnection(fields);
  checkFraming(fields, httpVersion);
  const hasContent = fields.has('transfer-encoding') || (fields.get('content-length') ?? '0') !== '0';
  if (hasContent && WITHOUT_BODY.has(method)) throw refused('body_unexpected', { method });
  return { method, path, query, fields, hasContent };
}

// Where the body ends. The parser has refused the worst; what it still reads, and a reader in front may read otherwise, is
// a length with zeros before it (octal to some), a coding besides chunked, and chunks in HTTP/1.0, which has none.
function checkFraming(fields: ReadonlyMap<string, string>, httpVersion: '1.0' | '1.1'): void {
  const coding = fields.get('transfer-encoding');
  if (coding !== undefined && httpVersion === '1.0') throw refused('request_malformed');
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') throw refused('transfer_coding_unsupported');
  if (!ONE_SPELLING_OF_LENGTH.test(fields.get('content-length') ?? '0')) throw refused('request_malformed');
  // Node takes `100-continue` anywhere in the value for the whole of it. HTTP/1.0 has no expectations to be met.
  const expected = httpVersion === '1.0' ? undefined : fields.get('expect');
  if (expected !== undefined && expected.toLowerCase() !== '100-continue') throw refused('expectation_unsupported');
}

// A proxy must drop the fields that Connection names; we would see them, and the next one in the chain would not.
function checkConnection(fields: ReadonlyMap<string, string>): void {
  if (fields.has('upgrade')) throw refused('upgrade_unsupported');
  for (const option of (fields.get('connection') ?? '').split(',')) {
    const header = option.trim().toLowerCase();
    if (isSentOnce(header)) throw refused('connection_malformed', { header });
  }
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
    } else if (isSentOnce(name)) {
      throw refused('header_repeated', { header: name });
    } else {
      fields.set(name, `${earlier}, ${value}`);
    }
  }
  return fields;
}

function isSentOnce(name: string): boolean {
  return SENT_ONCE.has(name) || name.startsWith(OUR_PREFIX);
}

function malformed(why: string): ApiError {
  return refused('target_malformed', { why });
}

// Who wrote this may not agree with us on where the next request begins, so there is no next one.
function refused(code: ErrorCode, facts: Record<string, string> = {}): ApiError {
  return new ApiError(code, { facts, headers: { connection: 'close' } });
}

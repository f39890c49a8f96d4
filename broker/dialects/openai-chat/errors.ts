import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';

/** The error as OpenAI's clients read it: https://platform.openai.com/docs/guides/error-codes */
export function writeError(error: ApiError, requestId: string | undefined): string {
  return JSON.stringify({
    error: {
      message: error.message,
      type: error.type,
      param: error.param ?? null,
      code: error.upstreamCode ?? error.code,
      ...(requestId === undefined ? {} : { request_id: requestId }),
    },
  });
}

/** The same, as the last event of a stream that cannot go on. */
export function writeStreamError(error: ApiError, requestId: string | undefined): string {
  return `event: error\ndata: ${writeError(error, requestId)}\n\n`;
}

type UpstreamAnswer = { status: number; retryAfter: string | undefined; body: Buffer };

// Mistakes of the caller that the provider found; every other refusal is between the provider and us.
const CALLERS_MISTAKE = new Set([400, 404, 409, 413, 422]);
const PLAIN_CODE = /^[a-z0-9_.-]{1,64}$/i;
const SECONDS_OR_DATE = /^(?:\d{1,6}|[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT)$/;

/**
 * What a provider's refusal becomes. The caller's own mistakes keep their status and sentence; a 401 or 403 is about our
 * credential and a 5xx about their machines, and neither is the caller's to see.
 */
export function readUpstreamError({ status, retryAfter, body }: UpstreamAnswer): ApiError {
  if (status === 429) {
    const headers = SECONDS_OR_DATE.test(retryAfter ?? '') ? { [HEADER.retryAfter]: retryAfter! } : {};
    return new ApiError('upstream_busy', { headers });
  }
  const said = CALLERS_MISTAKE.has(status) ? parseError(body) : undefined;
  return said === undefined ? failed(`upstream answered ${status}`) : refused(said, status);
}

/** What an error becomes that a provider has put into a stream which it had begun with a 200; nothing when it is none. */
export function readErrorBody(body: Buffer): ApiError | undefined {
  const said = parseError(body);
  if (said === undefined) return undefined;
  const kind = `${String(said.type)} ${String(said.code)}`;
  if (/rate_limit|insufficient_quota|\b429\b/.test(kind)) return new ApiError('upstream_busy');
  if (/invalid_request|context_length|content_filter|\b400\b/.test(kind)) return refused(said, 400);
  return failed(`upstream put an error into its stream: ${kind}`);
}

type Said = { message: string; type?: unknown; param?: unknown; code?: unknown };

function refused(said: Said, status: number): ApiError {
  return new ApiError('upstream_refused', {
    status,
    facts: { why: scrub(said.message) },
    ...(typeof said.param === 'string' ? { param: said.param } : {}),
    ...(typeof said.code === 'string' && PLAIN_CODE.test(said.code) ? { upstreamCode: said.code } : {}),
  });
}

function failed(why: string): ApiError {
  return new ApiError('upstream_failed', { cause: new Error(why) });
}

function parseError(body: Buffer): Said | undefined {
  try {
    const { error } = JSON.parse(body.toString()) as { error?: Partial<Said> };
    return typeof error?.message === 'string' ? { ...error, message: error.message } : undefined;
  } catch {
    // An error page instead of an error: there is nothing in it that a caller could use.
    return undefined;
  }
}

// A provider may name a key, a project or an organisation of ours; the sentence is for somebody else.
const OURS =
  /\b(?:g?sk|pk|rk|xai|org|proj)[-_](?=[\w*-]*[\dA-Z*])[\w*-]{6,}|\bAIza[\w-]{10,}|\bBearer (?=\S*[\d*]|\S{20})\S{6,}/g;

function scrub(message: string): string {
  return message.replace(OURS, '[hidden]');
}

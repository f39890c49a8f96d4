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

type UpstreamAnswer = { status: number; retryAfter: string | undefined; body: Buffer };

// Mistakes of the caller that the provider found; every other refusal is between the provider and us.
const CALLERS_MISTAKE = new Set([400, 404, 409, 413, 422]);
const PLAIN_CODE = /^[a-z0-9_.-]{1,64}$/i;

/**
 * What a provider's refusal becomes. The caller's own mistakes keep their status and sentence; a 401 or 403 is about our
 * credential and a 5xx about their machines, and neither is the caller's to see.
 */
export function readUpstreamError({ status, retryAfter, body }: UpstreamAnswer): ApiError {
  if (status === 429) {
    return new ApiError(
      'upstream_busy',
      retryAfter === undefined ? {} : { headers: { [HEADER.retryAfter]: retryAfter } },
    );
  }
  const said = CALLERS_MISTAKE.has(status) ? parseError(body) : undefined;
  if (said === undefined) return new ApiError('upstream_failed', { cause: new Error(`upstream answered ${status}`) });
  return new ApiError('upstream_refused', {
    status,
    facts: { why: said.message },
    ...(typeof said.param === 'string' ? { param: said.param } : {}),
    ...(typeof said.code === 'string' && PLAIN_CODE.test(said.code) ? { upstreamCode: said.code } : {}),
  });
}

function parseError(body: Buffer): { message: string; param?: unknown; code?: unknown } | undefined {
  try {
    const { error } = JSON.parse(body.toString()) as { error?: { message?: unknown; param?: unknown; code?: unknown } };
    return typeof error?.message === 'string' ? { ...error, message: error.message } : undefined;
  } catch {
    // An error page instead of an error: there is nothing in it that a caller could use.
    return undefined;
  }
}

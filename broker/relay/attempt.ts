import type { ServerResponse } from 'node:http';
import { errors } from 'undici';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import { readUpstreamError, writeError } from '../dialects/openai-chat/errors.ts';
import type { Operation, Provider } from '../providers/provider.ts';
import { Pump, type Relayed } from './pump.ts';

type Settings = {
  provider: Provider;
  operation: Operation;
  body: Buffer;
  isStream: boolean;
  response: ServerResponse;
  answerHeaders: string[];
  requestId: string;
  /** How long the broker itself has needed so far; told to the caller. */
  overheadMs: number;
};

class TotalTimeout extends Error {
  override name = 'TotalTimeout';
}

/**
 * Asks a provider once and carries its answer to the caller. This is the only place that calls a vendor.
 * The request is built from nothing: no header of the caller's reaches a vendor.
 */
export async function attempt(settings: Settings): Promise<Relayed> {
  const { provider, operation, isStream, response, requestId } = settings;
  const { headersMs, idleMs, totalMs } = provider.timeouts;
  const pump = new Pump({
    response,
    answerHeaders: [...settings.answerHeaders, HEADER.overheadMs, settings.overheadMs.toFixed(1)],
    streamEnd: isStream && operation === 'chat' ? '[DONE]' : undefined,
    writeStreamError: (error) => `event: error\ndata: ${writeError(error, requestId)}\n\n`,
    readRefusal: readUpstreamError,
    readFailure: (error, hasBegun) => readFailure(error, hasBegun, provider),
  });
  provider.dispatcher.dispatch(
    {
      origin: provider.origin,
      path: provider.paths[operation],
      method: 'POST',
      headers: [
        'content-type',
        'application/json',
        'accept',
        isStream ? 'text/event-stream' : 'application/json',
        // Compressed streams are collected before they are sent, by one side or the other.
        'accept-encoding',
        'identity',
        ...provider.credential(),
      ],
      body: settings.body,
      headersTimeout: headersMs,
      bodyTimeout: idleMs,
    },
    pump,
  );
  const timer = setTimeout(() => pump.abort(new TotalTimeout()), totalMs);
  try {
    return await pump.done;
  } finally {
    clearTimeout(timer);
  }
}

function readFailure(error: Error, hasBegun: boolean, { timeouts }: Provider): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof errors.HeadersTimeoutError) return timeout(timeouts.headersMs, error);
  if (error instanceof errors.BodyTimeoutError) return timeout(timeouts.idleMs, error);
  if (error instanceof TotalTimeout) return timeout(timeouts.totalMs, error);
  return new ApiError(hasBegun ? 'upstream_cut' : 'upstream_unreachable', { cause: error });
}

// Whether the provider began, and charged, is not known after a time-out; a client library must not repeat it by itself.
function timeout(ms: number, cause: Error): ApiError {
  return new ApiError('upstream_timeout', {
    facts: { seconds: Math.ceil(ms / 1000) },
    headers: { [HEADER.shouldRetry]: 'false' },
    cause,
  });
}

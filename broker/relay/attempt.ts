import type { ServerResponse } from 'node:http';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import { writeStreamError } from '../dialects/openai-chat/errors.ts';
import type { Usage } from '../dialects/openai-chat/usage.ts';
import { SseError } from '../dialects/sse.ts';
import type { Operation, Provider } from '../providers/provider.ts';
import type { LiveCalls } from './live-calls.ts';
import { Lingering, Pump, type Kept, type Phase } from './pump.ts';
import { Reply } from './reply.ts';
import { Watch } from './watch.ts';

/** How a relayed answer ended. One that never began is not among them: its error is thrown, and becomes our own answer. */
export type Relayed = {
  upstreamStatus: number;
  bytes: number;
  end: 'whole' | 'cut' | 'hung up' | 'too slow';
  usage: Usage | undefined;
  /** Who answered, and why somebody was asked before. */
  provider: string;
  repeatedAfter: string | undefined;
  /** What broke it off, as the caller was told it. */
  error: ApiError | undefined;
  kept: Kept | undefined;
};

/** What holds for every call. */
export type RelaySettings = {
  elapsedMs: () => number;
  pingMs: number;
  slowReaderMs: number;
  hideUpstreamErrors: boolean;
  live: LiveCalls;
};

type Asked = {
  caller: { keyid: string };
  /** Who may be asked, the first first. */
  providers: readonly Provider[];
  operation: Operation;
  bodyFor: (provider: Provider) => Buffer;
  isStream: boolean;
  response: ServerResponse;
  answerHeaders: readonly string[];
  requestId: string;
  /** The same for the same request asked again, so that a provider can tell that it is the same. */
  idempotencyKey: string;
  /** Keep a whole answer up to this many bytes. */
  keepBytes: number;
  arrivedMs: number;
};

const MOST_ATTEMPTS = 2;
const LINGERING_MS = 1_000;

/**
 * Asks a provider, and once more when it went wrong before the first byte of an answer, and carries the answer to the
 * caller. This is the only place that calls a vendor, and the only one that watches the time while one answers.
 */
export async function relay(asked: Asked, settings: RelaySettings): Promise<Relayed> {
  const { providers, response, requestId, isStream } = asked;
  const { elapsedMs, live, slowReaderMs } = settings;
  const startedMs = elapsedMs();
  let provider = providers[0]!;
  let pump: Pump;
  let isTooSlow = false;
  const reply = new Reply({
    response,
    answerHeaders: [...asked.answerHeaders, HEADER.overheadMs, (startedMs - asked.arrivedMs).toFixed(1)],
    writeStreamError: (error) => writeStreamError(error, requestId),
    elapsedMs,
    onFull: () => {
      pump.pause();
      watch.lookBy(elapsedMs() + slowReaderMs);
    },
    onDrained: () => pump.resume(),
    onClosed: () => pump.hangUp(),
  });
  const { totalMs } = provider.timeouts;
  const totalBy = startedMs + totalMs;

  // Acts on the deadlines that are past, and tells the next.
  const look = (nowMs: number): number => {
    if (reply.fullSinceMs !== undefined && nowMs >= reply.fullSinceMs + slowReaderMs) {
      isTooSlow = true;
      reply.destroy();
      return Infinity;
    }
    if (nowMs >= totalBy) pump.abort(new OutOfTime(totalMs));
    const patienceMs = patienceIn(pump.phase, provider);
    const silentBy = pump.isPaused ? Infinity : pump.sinceMs + patienceMs;
    if (nowMs >= silentBy) pump.abort(pump.phase === 'ended' ? new Lingering() : new OutOfTime(patienceMs));
    const pingBy = isStream ? reply.spokeMs + settings.pingMs : Infinity;
    if (nowMs >= pingBy) reply.ping();
    return Math.min(
      nowMs < totalBy ? totalBy : Infinity,
      nowMs < silentBy ? silentBy : Infinity,
      nowMs < pingBy ? pingBy : nowMs + settings.pingMs,
      (reply.fullSinceMs ?? Infinity) + slowReaderMs,
    );
  };
  const watch = new Watch({ elapsedMs, look });
  const leave = live.enter({ keyid: asked.caller.keyid, endNow: (reason) => pump.abort(reason) });

  const ask = () => {
    const onPhase = () => pump !== undefined && watch.lookBy(pump.sinceMs + patienceIn(pump.phase, provider));
    pump = new Pump({ reply, isStream, elapsedMs, keepBytes: asked.keepBytes, onPhase });
    watch.lookBy(look(pump.sinceMs));
    dispatch(provider, asked, pump);
    return pump.done;
  };

  try {
    let end = await ask();
    let repeatedAfter: string | undefined;
    for (let attempts = 1; end.end === 'failed' && attempts < MOST_ATTEMPTS; attempts++) {
      const next = nextProvider(end.error, providers, provider, attempts);
      if (next === undefined || pump!.bytes > 0 || reply.isGone || elapsedMs() >= totalBy) break;
      repeatedAfter = readFailure(end.error, end.hasConnected).code;
      provider = next;
      end = await ask();
    }
    let error: ApiError | undefined;
    if (end.end === 'failed') {
      error = readFailure(end.error, end.hasConnected);
      if (settings.hideUpstreamErrors) error = hidden(error);
      if (!reply.hasBegun) throw error;
      reply.breakOff(error);
    }
    await reply.closed;
    const { status: upstreamStatus, bytes } = pump!;
    return {
      upstreamStatus,
      bytes,
      end: isTooSlow ? 'too slow' : end.end === 'failed' ? 'cut' : reply.isDelivered ? 'whole' : 'hung up',
      usage: pump!.usage(),
      provider: provider.name,
      repeatedAfter,
      error,
      kept: end.end === 'whole' ? end.kept : undefined,
    };
  } finally {
    watch.stop();
    leave();
  }
}

class OutOfTime extends Error {
  override name = 'OutOfTime';
  readonly afterMs: number;

  constructor(afterMs: number) {
    super(`nothing for ${afterMs} ms`);
    this.afterMs = afterMs;
  }
}

// The request is built from nothing: no header of the caller's reaches a vendor.
function dispatch(provider: Provider, { operation, isStream, bodyFor, idempotencyKey }: Asked, pump: Pump): void {
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
        'idempotency-key',
        idempotencyKey,
        ...provider.credential(),
      ],
      body: bodyFor(provider),
      // The library's own timers are coarse, and count what is not read as silence.
      headersTimeout: 0,
      bodyTimeout: 0,
    },
    pump,
  );
}

function patienceIn(phase: Phase, { timeouts }: Provider): number {
  switch (phase) {
    case 'asked':
      return timeouts.headersMs;
    case 'announced':
      return timeouts.firstByteMs;
    case 'answering':
      return timeouts.idleMs;
    case 'ended':
      return LINGERING_MS;
  }
}

/**
 * Who is asked next, when the one before failed without a byte of an answer. A connection that broke may be tried again
 * anywhere; a provider that is busy or broken is not asked a second time; and after a time-out, or a refusal of the
 * request itself, nobody is: money may have been spent, or would be again.
 */
function nextProvider(
  error: Error,
  providers: readonly Provider[],
  asked: Provider,
  attempts: number,
): Provider | undefined {
  if (error instanceof OutOfTime) return undefined;
  const other = providers[attempts];
  if (!(error instanceof ApiError)) return other ?? asked;
  return error.code === 'upstream_busy' || error.code === 'upstream_failed' ? other : undefined;
}

function readFailure(error: Error, hasConnected: boolean): ApiError {
  if (error instanceof ApiError) return error;
  // Whether the provider began, and charged, is not known; a client library must not repeat it by itself.
  const headers = { [HEADER.shouldRetry]: 'false' };
  if (error instanceof SseError) return new ApiError('upstream_garbled', { headers, cause: error });
  if (error instanceof OutOfTime) {
    const facts = { seconds: Math.ceil(error.afterMs / 1000) };
    return new ApiError('upstream_timeout', { facts, headers, cause: error });
  }
  return hasConnected
    ? new ApiError('upstream_cut', { headers, cause: error })
    : new ApiError('upstream_unreachable', { cause: error });
}

// Whatever it was is a matter between the operator and the provider; it stands in the log as the cause. Whether it may be
// asked again, and when, stays the caller's to know.
function hidden(error: ApiError): ApiError {
  const { code, headers } = error;
  return code.startsWith('upstream_') ? new ApiError('upstream_failed', { headers, cause: error }) : error;
}

import type { ServerResponse } from 'node:http';
import { HEADER } from '@sallyport/protocol/headers.ts';
import type { Dialect } from './data-paths.ts';
import { DoorError } from './door-errors.ts';
import { writeStreamError } from './error-answer.ts';
import { valuesOf } from './guard.ts';
import type { Incoming } from './uplink.ts';

// Built from a list of what may pass, as on the way out. `x-sallyport-rotate` is for the daemon, and no answer opens this door to a web page.
const FIELDS_HOME = new Set<string>([
  HEADER.contentType,
  'content-length',
  'content-disposition',
  'cache-control',
  HEADER.requestId,
  'request-id',
  HEADER.retryAfter,
  HEADER.retryAfterMs,
  HEADER.shouldRetry,
  HEADER.idempotentReplayed,
  HEADER.overheadMs,
  HEADER.droppedParams,
  'openai-processing-ms',
  'openai-version',
  'allow',
]);
const FAMILIES_HOME = ['x-ratelimit-', 'anthropic-ratelimit-'];

/** Tells client libraries not to ask again by themselves: what was asked for may have been done, and paid for. */
export const NOT_AGAIN = { [HEADER.shouldRetry]: 'false' };

function garbled(why: string): DoorError {
  return new DoorError('broker_garbled', { facts: { why }, headers: NOT_AGAIN });
}

function headersHome(raw: readonly string[]): string[] {
  return raw.filter((_, index) => {
    const name = raw[index - (index % 2)]!.toLowerCase();
    return FIELDS_HOME.has(name) || FAMILIES_HOME.some((family) => name.startsWith(family));
  });
}

// What else can come back from the broker's address: a log-in page, a front end that speaks HTTP/1.0, a redirect. Passed on,
// a client library would take it for the model's words, or a broken answer for a whole one.
function checkIncoming({ status, headers, body }: Incoming): void {
  const value = (name: string) => valuesOf(headers, name)[0]?.toLowerCase();
  if (status < 200 || (status > 299 && status < 400) || status > 599) throw garbled(`its status is ${status}.`);
  if ((value('content-encoding') ?? 'identity') !== 'identity')
    throw garbled('it is compressed, which nobody asked for.');
  if (value('content-type')?.startsWith('text/html') === true) throw garbled('it is a web page.');
  const hasEnd = value('content-length') !== undefined || value('transfer-encoding') === 'chunked' || status === 204;
  // Such an answer ends where its connection does, and nobody could tell its end from a break.
  if (!hasEnd || body.httpVersion !== '1.1') throw garbled('it does not say where it ends.');
}

type Carrying = {
  response: ServerResponse;
  dialect: Dialect;
  /** What stands on the answer whoever gives it. */
  answerHeaders: Readonly<Record<string, string>>;
  /** How long the broker may say nothing inside an answer. */
  silenceMs: number;
  /** Aborted, with a reason, when there is nobody left to carry it to. */
  signal: AbortSignal;
};

/** Carries the body of an answer to the app. Rejects only while nothing of it has been said. */
export function carry(
  incoming: Incoming,
  { response, dialect, answerHeaders, silenceMs, signal }: Carrying,
): Promise<void> {
  const { body, status, headers } = incoming;
  try {
    checkIncoming(incoming);
  } catch (error) {
    body.destroy();
    throw error;
  }
  const isStream = valuesOf(headers, HEADER.contentType)[0]?.toLowerCase().startsWith('text/event-stream') === true;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let batch: Buffer[] = [];
  let tail: Buffer = Buffer.alloc(0);
  let isOver = false;
  let silence: NodeJS.Timeout | undefined;

  const begin = () => {
    if (!response.headersSent)
      response.writeHead(status, [...Object.entries(answerHeaders).flat(), ...headersHome(headers)]);
  };
  // The parser hands over one piece for each chunk; all that came in one read leave in one write.
  const flush = () => {
    if (batch.length === 0 || response.destroyed) return;
    const bytes = batch.length === 1 ? batch[0]! : Buffer.concat(batch);
    batch = [];
    begin();
    if (isStream) tail = Buffer.concat([tail, bytes]).subarray(-TAIL_BYTES);
    if (response.write(bytes) || isOver) return;
    // While the app does not read, nothing is read of the broker either, and a silence is not the broker's.
    body.pause();
    clearTimeout(silence);
  };
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => breakOff(tooSilent(silenceMs)), silenceMs);
  };
  const finish = () => {
    isOver = true;
    clearTimeout(silence);
    response.off('drain', drained);
    signal.removeEventListener('abort', aborted);
  };
  const drained = () => {
    listen();
    body.resume();
  };
  const breakOff = (error: Error) => {
    if (isOver) return;
    finish();
    body.destroy();
    flush();
    if (!response.headersSent) return reject(error);
    if (error instanceof DoorError && !response.destroyed) tellBreak(response, isStream, tail, error, dialect);
    else response.destroy();
    resolve();
  };
  const aborted = () => breakOff(signal.reason as Error);

  signal.addEventListener('abort', aborted);
  response.on('drain', drained);
  body.on('data', (piece: Buffer) => {
    if (isOver) return;
    silence?.refresh();
    if (batch.push(piece) === 1) process.nextTick(flush);
  });
  // Node says this of a whole body only.
  body.on('end', () => {
    if (isOver) return;
    flush();
    finish();
    begin();
    response.end();
    resolve();
  });
  // The reason is of no use to the app; that it was not the end is, and every break closes the stream.
  body.on('error', () => {});
  body.on('close', () => breakOff(new DoorError('broker_cut', { headers: NOT_AGAIN })));
  listen();
  if (signal.aborted) aborted();
  return promise;
}

function tooSilent(silenceMs: number): DoorError {
  return new DoorError('broker_slow', { facts: { seconds: Math.ceil(silenceMs / 1000) }, headers: NOT_AGAIN });
}

// The longest error event that the broker writes is far shorter.
const TAIL_BYTES = 4096;
const AT_BOUNDARY = /(?:^|\n\n|\r\n\r\n)$/;
const ENDS_IN_ERROR = /(?:^|\n)(?:event: error\r?\ndata: [^\n]*|data: \{"error":[^\n]*)\r?\n\r?\n$/;
const TELL_MS = 2_000;

/**
 * Ends an answer that is not whole. What was sent cannot be taken back, but it must not pass for the whole: a stream ends in
 * an error event, and the socket is destroyed in any case, because a proper end is what a whole answer has.
 */
function tellBreak(
  response: ServerResponse,
  isStream: boolean,
  tail: Buffer,
  error: DoorError,
  dialect: Dialect,
): void {
  const destroy = () => void response.destroy();
  const text = tail.toString('latin1');
  // In the middle of an event nothing can be said that would not be read as its rest.
  const canTell = isStream && AT_BOUNDARY.test(text) && !ENDS_IN_ERROR.test(text);
  // Whoever does not read would not read the error either, and the socket would wait for them for ever.
  if (response.writableNeedDrain) return destroy();
  // Node holds what was just written until the end of this tick; destroyed now, it would be lost.
  if (!canTell) return void setImmediate(destroy);
  const timer = setTimeout(destroy, TELL_MS);
  response.write(writeStreamError(error, dialect), () => {
    clearTimeout(timer);
    destroy();
  });
}

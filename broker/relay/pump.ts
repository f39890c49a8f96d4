import type { Dispatcher } from 'undici';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import { EventCutter } from '../dialects/sse.ts';
import { ChatStream } from '../dialects/openai-chat/stream.ts';
import { readUpstreamError } from '../dialects/openai-chat/errors.ts';
import { usageIn, USAGE_TAIL_BYTES, type Usage } from '../dialects/openai-chat/usage.ts';
import type { Reply } from './reply.ts';

type Controller = Dispatcher.DispatchController;
type Headers = Parameters<NonNullable<Dispatcher.DispatchHandler['onResponseStart']>>[2];

/** What a provider has said in full: kept where the same question may be asked again. */
export type Kept = { status: number; headers: readonly string[]; body: Buffer | undefined };

/** How an attempt ended: with the whole answer, because the caller left, or not well. */
export type PumpEnd =
  | { end: 'whole'; kept: Kept | undefined }
  | { end: 'hung up' }
  | { end: 'failed'; error: Error; hasConnected: boolean };

type Settings = {
  reply: Reply;
  /** Whether the caller asked for a stream: nobody who did can read anything else, and the other way round. */
  isStream: boolean;
  elapsedMs: () => number;
  /** Keep a whole answer up to this many bytes; 0 keeps none. */
  keepBytes: number;
  /** There is a new deadline, which may be nearer than the one before. */
  onPhase: () => void;
};

/** How far a provider has come, for whoever watches the time. */
export type Phase = 'asked' | 'announced' | 'answering' | 'ended';

// Built from a list of what may pass: cookies, addresses and internals of a provider are nobody's business here.
const PASSED_ON = ['content-type', 'content-length', 'openai-processing-ms', 'openai-version'] as const;

const LONGEST_REFUSAL = 64 * 1024;

/** The caller left; whatever the provider still sends is not read. */
export class HungUp extends Error {
  override name = 'HungUp';
}

/** The stream was complete, and yet its connection went on. */
export class Lingering extends Error {
  override name = 'Lingering';
}

/**
 * Carries one answer from a provider to the reply, as undici hands it over. Nothing is begun before its first real byte
 * has come: until then another attempt can be made, and the status is still ours to choose.
 */
export class Pump implements Dispatcher.DispatchHandler {
  readonly #settings: Settings;
  readonly #reply: Reply;
  readonly done: Promise<PumpEnd>;
  #resolve!: (end: PumpEnd) => void;
  #controller: Controller | undefined;
  #isOver = false;
  #isPaused = false;
  #isJson = false;
  #head: string[] = [];
  #cutter: EventCutter | undefined;
  #stream: ChatStream | undefined;
  #refusal: { retryAfter: string | undefined; chunks: Buffer[]; length: number } | undefined;
  #kept: Buffer[] | undefined;
  // The end of an answer that is no stream: it tells what was used, and whether it is the end.
  #tail: Buffer = Buffer.alloc(0);
  phase: Phase = 'asked';
  /** When this phase began, or its last byte came. */
  sinceMs: number;
  status = 0;
  bytes = 0;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#reply = settings.reply;
    this.sinceMs = settings.elapsedMs();
    const { promise, resolve } = Promise.withResolvers<PumpEnd>();
    this.done = promise;
    this.#resolve = resolve;
    if (settings.keepBytes > 0) this.#kept = [];
  }

  /** While the caller's socket is full nothing is read, and a silence is not the provider's. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** What the answer used, as far as it has come; nothing when there was none. */
  usage(): Usage | undefined {
    if (this.#stream !== undefined) return this.#stream.usage();
    if (this.bytes === 0) return undefined;
    const counted = { outputTokens: Math.ceil(this.bytes / 4), isEstimated: true };
    return usageIn(this.#tail) ?? counted;
  }

  /** Gives up, with a reason; whatever the provider still sends is not read. */
  abort(reason: Error): void {
    if (this.#isOver) return;
    if (this.#controller === undefined) this.#fail(reason);
    else this.#controller.abort(reason);
  }

  /** The caller is gone. Every answer closes in the end; an error object for each would cost as much as the signature. */
  hangUp(): void {
    if (!this.#isOver) this.abort(new HungUp());
  }

  pause(): void {
    if (this.#isOver) return;
    this.#isPaused = true;
    this.#controller?.pause();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.sinceMs = this.#settings.elapsedMs();
    this.#settings.onPhase();
    this.#controller?.resume();
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    // A caller who left while the request waited for a connection will never drain anything: the connection would be
    // paused for ever and lost to everyone.
    if (this.#isOver || this.#reply.isGone) controller.abort(new HungUp());
  }

  onResponseStart(controller: Controller, status: number, headers: Headers): void {
    // 102 and 103 only announce the answer.
    if (status < 200) return;
    this.status = status;
    this.#enter('announced');
    // We asked for plain bytes; what is passed on would not be what its headers say.
    if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
      return controller.abort(garbled('the answer is compressed'));
    }
    if (status > 299) {
      const retryAfter = headers['retry-after'];
      this.#refusal = { retryAfter: typeof retryAfter === 'string' ? retryAfter : undefined, chunks: [], length: 0 };
      return;
    }
    for (const name of PASSED_ON) {
      const value = headers[name];
      if (typeof value === 'string') this.#head.push(name, value);
    }
    const type = String(headers['content-type'] ?? '').toLowerCase();
    const isStream = type.startsWith('text/event-stream');
    if (isStream !== this.#settings.isStream) return controller.abort(garbled(`the answer is of type ${type}`));
    this.#isJson = type.startsWith('application/json');
    if (!isStream) return;
    this.#cutter = new EventCutter();
    this.#stream = new ChatStream();
    this.#kept = undefined;
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    if (this.#refusal !== undefined) return this.#collectRefusal(controller, chunk);
    // What comes behind the last words is waited for no longer because there is more of it.
    if (this.phase !== 'ended') this.sinceMs = this.#settings.elapsedMs();
    try {
      if (this.#cutter === undefined) this.#pass(chunk);
      else this.#cutter.cut(chunk, this.#hear, this.#pass);
    } catch (error) {
      controller.abort(error as Error);
    }
  }

  onResponseEnd(): void {
    if (this.#refusal !== undefined) {
      const { retryAfter, chunks } = this.#refusal;
      return this.#fail(readUpstreamError({ status: this.status, retryAfter, body: Buffer.concat(chunks) }));
    }
    let cause: unknown;
    try {
      this.#passRest();
    } catch (error) {
      // Half an event is no end, wherever in it the connection ended.
      cause = error;
    }
    if (this.#isWhole()) this.#succeed();
    else this.#fail(new Error('the connection ended politely, but the answer had not', { cause }));
  }

  onResponseError(_: Controller | undefined, error: Error): void {
    // Its last words had been said; how the connection ended afterwards is not the caller's concern.
    if (this.#stream?.isEnded === true && !(error instanceof HungUp)) this.#succeed();
    else this.#fail(error);
  }

  readonly #hear = (bytes: Buffer, from: number, to: number): boolean => {
    const goesOn = this.#stream!.hear(bytes, from, to);
    if (this.#stream!.isEnded && this.phase !== 'ended') {
      // The end of the answer usually came along with its last words. Where it did not, it is not waited for long.
      process.nextTick(() => !this.#isOver && this.#enter('ended'));
    }
    return goesOn;
  };

  readonly #pass = (bytes: Buffer): void => {
    if (bytes.length === 0) return;
    this.bytes += bytes.length;
    if (this.phase === 'announced') this.#begin();
    if (this.#stream === undefined) this.#tail = endOf(this.#tail, bytes);
    this.#keep(bytes);
    this.#reply.write(bytes);
  };

  #begin(): void {
    this.#enter('answering');
    this.#reply.begin({ status: this.status, headers: this.#head, isStream: this.#stream !== undefined });
    // Pings may have filled the caller's socket already.
    if (this.#reply.fullSinceMs !== undefined) this.pause();
  }

  // The empty line behind the last words may be missing; behind any others, what is missing is more than that.
  #passRest(): void {
    if (this.#cutter === undefined || this.#stream === undefined || this.#stream.isEnded) return;
    const stream = this.#stream;
    this.#cutter.finish((bytes, from, to) => stream.isEnd(bytes, from, to) && this.#hear(bytes, from, to), this.#pass);
  }

  // Where no length was announced, the end of a connection looks like the end of an answer.
  #isWhole(): boolean {
    if (this.#stream !== undefined) return this.#stream.isEnded;
    return !this.#isJson || this.#tail.toString('latin1').trimEnd().endsWith('}');
  }

  #keep(bytes: Buffer): void {
    if (this.#kept === undefined || this.bytes > this.#settings.keepBytes) this.#kept = undefined;
    else this.#kept.push(bytes);
  }

  #collectRefusal(controller: Controller, chunk: Buffer): void {
    const refusal = this.#refusal!;
    refusal.chunks.push(chunk);
    refusal.length += chunk.length;
    if (refusal.length <= LONGEST_REFUSAL) return;
    controller.abort(new ApiError('upstream_failed', { cause: new Error('a refusal without an end') }));
  }

  #enter(phase: Phase): void {
    this.phase = phase;
    this.sinceMs = this.#settings.elapsedMs();
    this.#settings.onPhase();
  }

  #succeed(): void {
    if (this.#isOver) return;
    // A whole answer may be an empty one, which has not begun before its end.
    if (this.phase === 'announced') this.#begin();
    const isKept = this.#settings.keepBytes > 0 && this.#stream === undefined;
    const body = this.#kept && Buffer.concat(this.#kept);
    this.#finish({ end: 'whole', kept: isKept ? { status: this.status, headers: this.#head, body } : undefined });
    this.#reply.end();
  }

  #fail(error: Error): void {
    if (error instanceof HungUp) this.#finish({ end: 'hung up' });
    else this.#finish({ end: 'failed', error, hasConnected: this.#controller !== undefined });
  }

  #finish(end: PumpEnd): void {
    this.#isOver = true;
    this.#resolve(end);
  }
}

// It was an answer, and has been paid for; a client library must not ask for another by itself.
function garbled(why: string): ApiError {
  return new ApiError('upstream_garbled', { headers: { [HEADER.shouldRetry]: 'false' }, cause: new Error(why) });
}

function endOf(before: Buffer, bytes: Buffer): Buffer {
  const all = bytes.length < USAGE_TAIL_BYTES ? Buffer.concat([before, bytes]) : bytes;
  return all.subarray(-USAGE_TAIL_BYTES);
}

import type { ServerResponse } from 'node:http';
import type { ApiError } from '@sallyport/protocol/errors.ts';

type Settings = {
  response: ServerResponse;
  /** The headers that the answer carries whoever gives it. */
  answerHeaders: readonly string[];
  /** What a failure in the middle of a stream looks like to this caller. */
  writeStreamError: (error: ApiError) => string;
  elapsedMs: () => number;
  /** The caller's socket takes no more for now; it takes more again; it is gone. */
  onFull: () => void;
  onDrained: () => void;
  onClosed: () => void;
};

/** How an answer begins: what the provider said of it, as far as a caller may know. */
export type Head = { status: number; headers: readonly string[]; isStream: boolean };

// Proxies on the way must neither compress nor collect a stream.
const FOR_STREAMS = ['cache-control', 'no-cache, no-transform', 'x-accel-buffering', 'no'];
const PINGED: Head = { status: 200, headers: ['content-type', 'text/event-stream'], isStream: true };
const PING = ': ping\n\n';
const LARGEST_BATCH = 64 * 1024;

/**
 * The caller's side of an answer: what has been said to them, which cannot be unsaid. It is written to the raw socket;
 * stream objects in between cost half of the processor time, and an unheard error on one of them ends the process.
 */
export class Reply {
  readonly #settings: Settings;
  readonly #response: ServerResponse;
  #isStream = false;
  #end: 'whole' | 'broken' | undefined;
  #batch: Buffer[] = [];
  #batched = 0;
  /** When the caller was last sent anything; a silence is counted from here. */
  spokeMs: number;
  /** Since when the caller takes nothing of what is ready; of the last words, since when they could have taken all. */
  fullSinceMs: number | undefined;
  /** Kept once the socket has taken the last byte, or is gone. */
  readonly closed: Promise<void>;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#response = settings.response;
    this.spokeMs = settings.elapsedMs();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    if (this.#response.destroyed) resolve();
    this.#response.on('drain', this.#onDrain);
    this.#response.once('close', () => {
      this.#response.off('drain', this.#onDrain);
      settings.onClosed();
      resolve();
    });
  }

  get hasBegun(): boolean {
    return this.#response.headersSent;
  }

  get isGone(): boolean {
    return this.#response.destroyed;
  }

  /** Whether everything was said, and the socket has taken it. */
  get isDelivered(): boolean {
    return this.#end === 'whole' && this.#response.writableFinished;
  }

  /** Begins the answer, unless a ping has done so. */
  begin({ status, headers, isStream }: Head): void {
    if (this.hasBegun) return;
    this.#isStream = isStream;
    this.#response.writeHead(status, [...this.#settings.answerHeaders, ...headers, ...(isStream ? FOR_STREAMS : [])]);
  }

  /** Passes on whole events, or bytes of an answer that is no stream. */
  write(bytes: Buffer): void {
    if (this.#batch.push(bytes) === 1) process.nextTick(this.#flush);
    this.#batched += bytes.length;
    if (this.#batched >= LARGEST_BATCH) this.#flush();
  }

  /** Says in a stream that there is nothing to say yet; this is no byte of the answer. */
  ping(): void {
    if (this.isGone || this.#end !== undefined || this.fullSinceMs !== undefined) return;
    this.begin(PINGED);
    this.#flush();
    this.#send(PING);
  }

  end(): void {
    this.#flush();
    this.#end = 'whole';
    this.#response.end();
    this.#awaitReader();
  }

  /**
   * Ends an answer that is not whole. What was sent cannot be taken back, but it must not pass for the whole: a stream
   * ends in an error event, and the socket is destroyed in any case, because a proper end is what a whole answer has.
   */
  breakOff(error: ApiError): void {
    this.#flush();
    this.#end = 'broken';
    const destroy = () => void this.#response.destroy();
    // Whoever does not read would not read the error either, and the socket would wait for them for ever.
    if (this.#response.writableNeedDrain) destroy();
    else if (this.#isStream) this.#response.write(this.#settings.writeStreamError(error), destroy);
    // Node holds what was just written until the end of this tick; destroyed now, it would be lost.
    else setImmediate(destroy);
    this.#awaitReader();
  }

  destroy(): void {
    this.#response.destroy();
  }

  // Events that arrive together leave together: one write to the socket instead of one for each. Collected here and not
  // with cork(): what a corked write returns tells of this tick alone, and never that the caller's socket is full.
  readonly #flush = (): void => {
    if (this.#batch.length === 0) return;
    const bytes = this.#batch.length === 1 ? this.#batch[0]! : Buffer.concat(this.#batch);
    this.#batch = [];
    this.#batched = 0;
    this.#send(bytes);
  };

  #send(bytes: Buffer | string): void {
    if (this.isGone) return;
    this.spokeMs = this.#settings.elapsedMs();
    if (this.#response.write(bytes) || this.fullSinceMs !== undefined) return;
    this.fullSinceMs = this.spokeMs;
    this.#settings.onFull();
  }

  // Nothing tells how far the last words have come, however little it is that a socket holds. Without an end to the
  // waiting, whoever does not read them would have the socket, and the call, for ever.
  #awaitReader(): void {
    this.fullSinceMs = this.#settings.elapsedMs();
    this.#settings.onFull();
  }

  readonly #onDrain = (): void => {
    this.fullSinceMs = undefined;
    this.#settings.onDrained();
  };
}

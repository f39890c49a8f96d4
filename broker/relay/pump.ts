import type { ServerResponse } from 'node:http';
import type { Dispatcher } from 'undici';
import { ApiError } from '@sallyport/protocol/errors.ts';

type Controller = Dispatcher.DispatchController;
type Headers = Parameters<NonNullable<Dispatcher.DispatchHandler['onResponseStart']>>[2];

/** How a relayed answer ended. A refusal by the provider is not among them: it is thrown, and becomes our own answer. */
export type Relayed = { upstreamStatus: number; bytes: number; end: 'whole' | 'cut' | 'hung up' };

/** What the provider said when it did not say yes. */
export type Refusal = { status: number; retryAfter: string | undefined; body: Buffer };

type Settings = {
  response: ServerResponse;
  answerHeaders: readonly string[];
  /** The last words of a complete stream; without them it was cut off, however politely it ended. */
  streamEnd: string | undefined;
  /** What a failure in the middle of a stream looks like to this caller. */
  writeStreamError: (error: ApiError) => string;
  readRefusal: (refusal: Refusal) => ApiError;
  readFailure: (error: Error, hasBegun: boolean) => ApiError;
};

// Built from a list of what may pass: cookies, addresses and internals of a provider are nobody's business here.
const PASSED_ON = ['content-type', 'content-length', 'openai-processing-ms', 'openai-version'] as const;

// Proxies on the way must neither compress nor collect a stream.
const FOR_STREAMS = ['cache-control', 'no-cache, no-transform', 'x-accel-buffering', 'no'];

const LONGEST_REFUSAL = 64 * 1024;
const TAIL_BYTES = 64;
const LARGEST_BATCH = 64 * 1024;

class HungUp extends Error {
  override name = 'HungUp';
}

class EncodedAnswer extends Error {
  override name = 'EncodedAnswer';
}

class EndlessRefusal extends Error {
  override name = 'EndlessRefusal';
}

/**
 * Carries an answer from the provider to the caller's socket, byte for byte, as undici hands it over. No stream objects
 * lie between the two: they cost half of the processor time, and an unheard error on one of them ends the process.
 */
export class Pump implements Dispatcher.DispatchHandler {
  readonly #settings: Settings;
  readonly #response: ServerResponse;
  readonly done: Promise<Relayed>;
  #resolve!: (relayed: Relayed) => void;
  #reject!: (error: ApiError) => void;
  #controller: Controller | undefined;
  #status = 0;
  #bytes = 0;
  #isStream = false;
  #isOver = false;
  #batch: Buffer[] = [];
  #batched = 0;
  #tail = '';
  #refusal: { retryAfter: string | undefined; chunks: Buffer[]; length: number } | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#response = settings.response;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#response.on('close', this.#onClose);
    this.#response.on('drain', this.#onDrain);
  }

  /** Gives up, with a reason; whatever the provider still sends is not read. */
  abort(reason: Error): void {
    if (this.#controller === undefined) this.#fail(reason);
    else this.#controller.abort(reason);
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    // A caller who left while the request waited for a connection will never drain anything: the connection would be
    // paused for ever and lost to everyone.
    if (this.#response.destroyed || this.#isOver) controller.abort(new HungUp());
  }

  onResponseStart(controller: Controller, status: number, headers: Headers): void {
    // 102 and 103 only announce the answer.
    if (status < 200) return;
    this.#status = status;
    // We asked for plain bytes; what is passed on would not be what its headers say.
    if ((headers['content-encoding'] ?? 'identity') !== 'identity') return controller.abort(new EncodedAnswer());
    if (status > 299) {
      const retryAfter = headers['retry-after'];
      this.#refusal = { retryAfter: typeof retryAfter === 'string' ? retryAfter : undefined, chunks: [], length: 0 };
      return;
    }
    const passed: string[] = [...this.#settings.answerHeaders];
    for (const name of PASSED_ON) {
      const value = headers[name];
      if (typeof value === 'string') passed.push(name, value);
    }
    this.#isStream = String(headers['content-type'] ?? '').startsWith('text/event-stream');
    if (this.#isStream) passed.push(...FOR_STREAMS);
    this.#response.writeHead(status, passed);
    // The caller's patience starts with our headers, and a model may think for long before its first word.
    if (this.#isStream) this.#response.flushHeaders();
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    if (this.#refusal !== undefined) {
      this.#refusal.chunks.push(chunk);
      this.#refusal.length += chunk.length;
      if (this.#refusal.length > LONGEST_REFUSAL) controller.abort(new EndlessRefusal());
      return;
    }
    this.#bytes += chunk.length;
    if (this.#isStream && this.#settings.streamEnd !== undefined) {
      this.#tail = (this.#tail + chunk.toString('latin1', Math.max(0, chunk.length - TAIL_BYTES))).slice(-TAIL_BYTES);
    }
    if (this.#batch.push(chunk) === 1) process.nextTick(this.#flush);
    this.#batched += chunk.length;
    if (this.#batched >= LARGEST_BATCH) this.#flush();
  }

  onResponseEnd(): void {
    if (this.#refusal !== undefined) {
      const { retryAfter, chunks } = this.#refusal;
      return this.#refuse(
        this.#settings.readRefusal({ status: this.#status, retryAfter, body: Buffer.concat(chunks) }),
      );
    }
    const { streamEnd } = this.#settings;
    if (this.#isStream && streamEnd !== undefined && !endsIn(this.#tail, streamEnd)) {
      return this.#cut(new ApiError('upstream_cut'));
    }
    this.#flush();
    this.#response.end();
    this.#finish('whole');
  }

  onResponseError(_: Controller | undefined, error: Error): void {
    this.#fail(error);
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    if (error instanceof HungUp) return this.#finish('hung up');
    const hasBegun = this.#response.headersSent;
    const answer = this.#settings.readFailure(error, hasBegun);
    if (hasBegun) this.#cut(answer);
    else this.#refuse(answer);
  }

  // What was sent cannot be taken back, but it must not pass for the whole: a stream ends in an error event, and in
  // either case the socket is destroyed, because a proper end is what a whole answer looks like.
  #cut(error: ApiError): void {
    this.#flush();
    const destroy = () => void this.#response.destroy();
    // Whoever does not read would not read the error either, and the socket would wait for them for ever.
    if (this.#response.writableNeedDrain) destroy();
    else if (this.#isStream) this.#response.write(this.#settings.writeStreamError(error), destroy);
    // Node holds what was just written until the end of this tick; destroyed now, it would be lost.
    else setImmediate(destroy);
    this.#finish('cut');
  }

  #refuse(error: ApiError): void {
    this.#release();
    this.#reject(error);
  }

  #finish(end: Relayed['end']): void {
    this.#release();
    this.#resolve({ upstreamStatus: this.#status, bytes: this.#bytes, end });
  }

  #release(): void {
    this.#isOver = true;
    this.#response.off('close', this.#onClose);
    this.#response.off('drain', this.#onDrain);
  }

  // Events that arrive together leave together: one write to the socket instead of one for each. Collected here and not
  // with cork(): what a corked write returns tells of this tick alone, and never that the caller's socket is full.
  readonly #flush = (): void => {
    if (this.#batch.length === 0) return;
    const bytes = this.#batch.length === 1 ? this.#batch[0]! : Buffer.concat(this.#batch);
    this.#batch = [];
    this.#batched = 0;
    if (!this.#response.destroyed && !this.#response.write(bytes)) this.#controller?.pause();
  };

  readonly #onDrain = (): void => this.#controller?.resume();

  readonly #onClose = (): void => {
    if (!this.#response.writableFinished) this.#controller?.abort(new HungUp());
  };
}

// As a line of its own: inside an event a model may have said the same words, but no line feed stands in front of them there.
function endsIn(tail: string, streamEnd: string): boolean {
  return tail
    .trimEnd()
    .split(/[\r\n]+/)
    .some((line) => line === `data: ${streamEnd}` || line === `data:${streamEnd}`);
}

import { Dispatcher } from 'undici';

/** An answer and how it is to be given. */
export type Script = {
  status: number;
  headers: Record<string, string>;
  chunks: Buffer[];
  delayMs?: number;
  pauseMs?: number;
  /** Break the connection after this many chunks, or fall silent after them. */
  cutAfter?: number | undefined;
  stallAfter?: number | undefined;
};

type WriteScript = (path: string, body: Buffer) => Script;
type Handler = Dispatcher.DispatchHandler;

/** A provider inside this process: it looks to the relay like any other way out, so nothing there knows of it. */
export class ScriptedDispatcher extends Dispatcher {
  readonly #writeScript: WriteScript;

  constructor(writeScript: WriteScript) {
    super();
    this.#writeScript = writeScript;
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Handler): boolean {
    const performance = new Performance(this.#writeScript(options.path, options.body as Buffer), handler);
    // Never within the call: a real provider does not answer before the request has left either.
    setImmediate(() => performance.begin());
    return true;
  }

  override close(): Promise<void> {
    return Promise.resolve();
  }

  override destroy(): Promise<void> {
    return Promise.resolve();
  }
}

class Performance implements Dispatcher.DispatchController {
  readonly #script: Script;
  readonly #handler: Handler;
  #next = 0;
  #timer: NodeJS.Timeout | undefined;
  #isWaiting = false;
  aborted = false;
  paused = false;
  reason: Error | null = null;

  constructor(script: Script, handler: Handler) {
    this.#script = script;
    this.#handler = handler;
  }

  begin(): void {
    this.#handler.onRequestStart?.(this, {});
    if (this.aborted) return;
    this.#after(this.#script.delayMs ?? 0, () => {
      this.#handler.onResponseStart?.(this, this.#script.status, this.#script.headers);
      this.#play();
    });
  }

  abort(reason: Error): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    clearTimeout(this.#timer);
    this.#handler.onResponseError?.(this, reason);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#play();
  }

  #play(): void {
    const { chunks, pauseMs = 0, cutAfter, stallAfter } = this.#script;
    while (!this.aborted) {
      if (this.#next === cutAfter) return this.abort(new Error('the script cuts the connection here'));
      if (this.#next === stallAfter) return;
      if (this.paused) {
        this.#isWaiting = true;
        return;
      }
      const chunk = chunks[this.#next++];
      if (chunk === undefined) return this.#handler.onResponseEnd?.(this, {});
      this.#handler.onResponseData?.(this, chunk);
      if (pauseMs > 0) return this.#after(pauseMs, () => this.#play());
    }
  }

  #after(ms: number, act: () => void): void {
    if (ms === 0) return act();
    this.#timer = setTimeout(() => {
      if (!this.aborted) act();
    }, ms);
  }
}

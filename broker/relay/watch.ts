type Settings = {
  elapsedMs: () => number;
  /** Acts on every deadline that is past, and says when the next one is. */
  look: (nowMs: number) => number;
};

/**
 * One timer for all the deadlines of a call. Most of them move away with every byte; the timer is not told, it looks
 * again when it fires. Only a deadline that comes nearer has to be announced.
 */
export class Watch {
  readonly #settings: Settings;
  #timer: NodeJS.Timeout | undefined;
  #dueMs = Infinity;
  #isOver = false;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** Looks at this time, or earlier. */
  lookBy(dueMs: number): void {
    if (this.#isOver || dueMs >= this.#dueMs) return;
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    this.#timer = setTimeout(this.#fire, Math.max(1, dueMs - this.#settings.elapsedMs()));
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  readonly #fire = (): void => {
    this.#dueMs = Infinity;
    this.lookBy(this.#settings.look(this.#settings.elapsedMs()));
  };
}

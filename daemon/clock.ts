// The broker's time, as far as this machine can know it. Nothing here ever sets the clock of the machine.

const MOST_OFF_MS = 24 * 3_600_000;

// The broker takes signatures up to 5 s from its future and up to a minute from its past: of what a slow exchange leaves
// open, the earlier end is the safe one.
const MOST_AHEAD_MS = 4000;

// Clocks are slewed by small amounts all day; a jump is a clock that was set, or a machine that slept.
const JUMP_MS = 2000;

/** When an exchange began and ended by our own clock. */
export type Exchange = { sentAt: number; answeredAt: number };

/** How far the broker's clock is ahead of ours, in memory only: what was true yesterday may be what is wrong today. */
export class ClockOffset {
  readonly #now: () => number;
  readonly #elapsedMs: () => number;
  #offsetMs = 0;
  #begun: number;

  constructor(now: () => number, elapsedMs: () => number) {
    this.#now = now;
    this.#elapsedMs = elapsedMs;
    this.#begun = now() - elapsedMs();
  }

  get offsetMs(): number {
    return this.#offsetMs;
  }

  /** The broker's time, in whole seconds. */
  nowSeconds(): number {
    return Math.floor((this.#now() + this.#offsetMs) / 1000);
  }

  /** Whether the clock was set, or the machine slept, since this was last asked; what was learnt before is forgotten then. */
  hasJumped(): boolean {
    const begun = this.#now() - this.#elapsedMs();
    const hasJumped = Math.abs(begun - this.#begun) > JUMP_MS;
    this.#begun = begun;
    if (hasJumped) this.#offsetMs = 0;
    return hasJumped;
  }

  /** Learns from `x-sallyport-time`; false when it says nothing that may be believed. */
  learn(time: string, { sentAt, answeredAt }: Exchange): boolean {
    if (!/^\d{1,15}$/.test(time)) return false;
    const middle = Number(time) - (sentAt + answeredAt) / 2;
    const offset = Math.min(middle, Number(time) - answeredAt + MOST_AHEAD_MS);
    // Who could move our clock at will could have signatures made for a day that has not come.
    if (Math.abs(offset) > MOST_OFF_MS) return false;
    this.#offsetMs = offset;
    return true;
  }
}

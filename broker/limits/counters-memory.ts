import { askPace } from './gcra.ts';

/** What a product allows each of its callers. */
export type Rate = { burst: number; perSecond: number; perDay?: number | undefined };

/** Whether one more request may pass; both limits are asked before either is charged. */
export type RateVerdict = {
  refusedBy: 'pace' | 'quota' | undefined;
  limit: number;
  remaining: number;
  resetMs: number;
  retryAfterMs: number;
};

type Settings = { now: () => number; elapsedMs: () => number };
type Counter = { busyUntil: number | undefined; day: number; usedToday: number };

const DAY_MS = 86_400_000;

/** Counts requests in this process. The number of keys is bounded by the configuration: products times callers. */
export class MemoryCounters {
  readonly #now: () => number;
  readonly #elapsedMs: () => number;
  readonly #counters = new Map<string, Counter>();

  constructor({ now, elapsedMs }: Settings) {
    this.#now = now;
    this.#elapsedMs = elapsedMs;
  }

  take(key: string, rate: Rate): RateVerdict {
    const counter = this.#counter(key);
    const wallMs = this.#now();
    const day = Math.floor(wallMs / DAY_MS);
    // Only a later day is a new day: a clock that is set back must not hand out the same quota twice.
    if (day > counter.day) {
      counter.day = day;
      counter.usedToday = 0;
    }
    const untilMidnightMs = (counter.day + 1) * DAY_MS - wallMs;
    const perDay = rate.perDay ?? Infinity;
    const leftToday = Math.max(0, perDay - counter.usedToday);
    const pace = askPace(counter.busyUntil, this.#elapsedMs(), rate);
    if (leftToday === 0) {
      return {
        refusedBy: 'quota',
        limit: perDay,
        remaining: 0,
        resetMs: untilMidnightMs,
        retryAfterMs: untilMidnightMs,
      };
    }
    if (!pace.allowed) {
      const { retryAfterMs, fullAfterMs } = pace;
      return { refusedBy: 'pace', limit: rate.burst, remaining: 0, resetMs: fullAfterMs, retryAfterMs };
    }
    counter.busyUntil = pace.busyUntil;
    counter.usedToday += 1;
    // The nearer limit is the one worth telling.
    return leftToday - 1 < pace.remaining
      ? { refusedBy: undefined, limit: perDay, remaining: leftToday - 1, resetMs: untilMidnightMs, retryAfterMs: 0 }
      : {
          refusedBy: undefined,
          limit: rate.burst,
          remaining: pace.remaining,
          resetMs: pace.fullAfterMs,
          retryAfterMs: 0,
        };
  }

  #counter(key: string): Counter {
    let counter = this.#counters.get(key);
    if (counter === undefined) {
      counter = { busyUntil: undefined, day: 0, usedToday: 0 };
      this.#counters.set(key, counter);
    }
    return counter;
  }
}

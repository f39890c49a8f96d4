/** How fast, and how many at once. */
export type Pace = { burst: number; perSecond: number };

/** Whether one more may pass, and what to tell the caller. */
export type PaceVerdict = {
  allowed: boolean;
  /** The new state, to be kept when the request passes. */
  busyUntil: number;
  remaining: number;
  retryAfterMs: number;
  fullAfterMs: number;
};

/**
 * The generic cell rate algorithm: a token bucket whose whole state is one number, the moment until which the bucket is
 * spoken for. `nowMs` is a monotonic clock, so that setting the wall clock gives nobody a fresh burst.
 */
export function askPace(busyUntil: number | undefined, nowMs: number, { burst, perSecond }: Pace): PaceVerdict {
  const costMs = 1000 / perSecond;
  const roomMs = burst * costMs;
  const from = Math.max(busyUntil ?? nowMs, nowMs);
  const next = from + costMs;
  const overMs = next - nowMs - roomMs;
  // A millionth of a millisecond forgives what floating point loses over a burst.
  const allowed = overMs <= 1e-6;
  const until = allowed ? next : from;
  return {
    allowed,
    busyUntil: until,
    remaining: Math.max(0, Math.floor((roomMs - (until - nowMs)) / costMs + 1e-9)),
    retryAfterMs: allowed ? 0 : overMs,
    fullAfterMs: until - nowMs,
  };
}

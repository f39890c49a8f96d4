import { isIPv6 } from 'node:net';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import { askPace, type Pace } from './gcra.ts';

type Settings = { pace: Pace; elapsedMs: () => number; mostAddresses?: number };

/** A bucket per network address, before anything that costs more than a look-up: unknown peers pay first. */
export function limitAddress({ pace, elapsedMs, mostAddresses = 50_000 }: Settings) {
  const busyUntil = new Map<string, number>();
  return ({ address }: { address: string }): void => {
    const nowMs = elapsedMs();
    const key = network(address);
    const verdict = askPace(busyUntil.get(key), nowMs, pace);
    if (!verdict.allowed) {
      const seconds = Math.ceil(verdict.retryAfterMs / 1000);
      throw new ApiError('address_rate', { facts: { seconds }, headers: { [HEADER.retryAfter]: String(seconds) } });
    }
    // Deleted and set again, so that the map stays in the order of last use.
    busyUntil.delete(key);
    busyUntil.set(key, verdict.busyUntil);
    if (busyUntil.size > mostAddresses) forgetOldest(busyUntil);
  };
}

// Whoever holds more than this many networks is not stopped by a bucket per address; the map must not grow for them.
function forgetOldest(map: Map<string, number>): void {
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}

// One customer is usually given a whole /64 of IPv6; its addresses are one place.
function network(address: string): string {
  if (!isIPv6(address)) return address;
  const [head, tail = ''] = address.split('::') as [string, string?];
  const left = head === '' ? [] : head.split(':');
  const right = tail === '' ? [] : tail.split(':');
  const missing = address.includes('::') ? 8 - left.length - right.length : 0;
  const middle = Array.from({ length: missing }, () => '0');
  return [...left, ...middle, ...right].slice(0, 4).join(':');
}

import { SKEW_SECONDS } from '@sallyport/protocol/profile.ts';
import type { Claim, ReplayStore, Verdict } from './replay.ts';

/** What a clean stop hands to the next start. */
export type ReplaySnapshot = {
  /** Nothing created up to this second is accepted: a crash before may have forgotten it. */
  fence: number;
  /** Records whose last second was up to this one have been dropped. */
  droppedUpTo: number;
  /** key id, nonce and last second of every use still remembered. */
  live: [keyid: string, nonce: string, lastSecond: number][];
};

/** How the last process ended: with a snapshot, or without one and last seen alive at some second. */
export type LastStop = { snapshot: ReplaySnapshot } | { lastSeen: number | undefined };

type Settings = { nowSeconds: number; last: LastStop; mostPerKey?: number; most?: number };

// A record outlives its signature a little, so that the two are never compared on the edge of a second.
const MARGIN_SECONDS = 5;
const MOST_PER_KEY = 20_000;
// About 150 bytes a record.
const MOST = 1_000_000;

/** The replay store of a single broker: in memory, refusing when it is full and never evicting what is live. */
export class MemoryReplayStore implements ReplayStore {
  readonly #mostPerKey: number;
  readonly #most: number;
  // Sorted by the second in which they may be dropped, so that sweeping never looks at what stays.
  readonly #bySecond = new Map<number, string[]>();
  readonly #live = new Map<string, number>();
  readonly #perKey = new Map<string, number>();
  #sweptAt: number;
  #droppedUpTo: number;
  readonly #fence: number;

  constructor({ nowSeconds, last, mostPerKey = MOST_PER_KEY, most = MOST }: Settings) {
    this.#mostPerKey = mostPerKey;
    this.#most = most;
    this.#sweptAt = nowSeconds;
    if ('snapshot' in last) {
      this.#fence = last.snapshot.fence;
      this.#droppedUpTo = last.snapshot.droppedUpTo;
      for (const [keyid, nonce, lastSecond] of last.snapshot.live) this.#remember(keyid, nonce, lastSecond);
    } else {
      // What the last process accepted was created at most SKEW_SECONDS after its clock. Its clock may have been ahead of
      // ours, so the later of the two counts; it notes the time once a second, hence one second more.
      this.#fence = Math.max(nowSeconds, (last.lastSeen ?? 0) + 1) + SKEW_SECONDS;
      this.#droppedUpTo = -1;
    }
  }

  claim({ keyid, nonce, created, lastSecond, nowSeconds }: Claim): Verdict {
    if (nowSeconds <= this.#fence) return { is: 'fenced', seconds: this.#fence - nowSeconds + 1 };
    if (created <= this.#fence) return { is: 'forgotten' };
    this.#sweep(nowSeconds);
    // The clock went back: this one may have been used, and dropped as outdated, before it did.
    if (lastSecond <= this.#droppedUpTo) return { is: 'forgotten' };
    if (this.#live.has(`${keyid} ${nonce}`)) return { is: 'used' };
    if ((this.#perKey.get(keyid) ?? 0) >= this.#mostPerKey) return { is: 'crowded', seconds: this.#secondsUntilRoom() };
    if (this.#live.size >= this.#most) return { is: 'full', seconds: this.#secondsUntilRoom() };
    this.#remember(keyid, nonce, lastSecond);
    return { is: 'fresh' };
  }

  fencedForMs(nowMs: number): number {
    return Math.max(0, (this.#fence + 1) * 1000 - nowMs);
  }

  snapshot(): ReplaySnapshot {
    const live = [...this.#live].map(([id, lastSecond]): ReplaySnapshot['live'][number] => {
      const [keyid, nonce] = id.split(' ') as [string, string];
      return [keyid, nonce, lastSecond];
    });
    return { fence: this.#fence, droppedUpTo: this.#droppedUpTo, live };
  }

  #remember(keyid: string, nonce: string, lastSecond: number): void {
    const id = `${keyid} ${nonce}`;
    this.#live.set(id, lastSecond);
    this.#perKey.set(keyid, (this.#perKey.get(keyid) ?? 0) + 1);
    const second = this.#bySecond.get(lastSecond);
    if (second === undefined) this.#bySecond.set(lastSecond, [id]);
    else second.push(id);
  }

  #sweep(nowSeconds: number): void {
    if (nowSeconds === this.#sweptAt) return;
    this.#sweptAt = nowSeconds;
    for (const [lastSecond, ids] of this.#bySecond) {
      if (lastSecond + MARGIN_SECONDS >= nowSeconds) continue;
      for (const id of ids) {
        this.#live.delete(id);
        const keyid = id.slice(0, id.indexOf(' '));
        const left = this.#perKey.get(keyid)! - 1;
        if (left === 0) this.#perKey.delete(keyid);
        else this.#perKey.set(keyid, left);
      }
      this.#bySecond.delete(lastSecond);
      this.#droppedUpTo = Math.max(this.#droppedUpTo, lastSecond);
    }
  }

  #secondsUntilRoom(): number {
    const first = Math.min(...this.#bySecond.keys());
    return Math.max(1, first + MARGIN_SECONDS + 1 - this.#sweptAt);
  }
}

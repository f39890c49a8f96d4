import { hash } from 'node:crypto';
import { ApiError } from '@sallyport/protocol/errors.ts';
import type { Kept } from './pump.ts';

/** A request that this caller has not sent before: it is answered, and then either kept or forgotten. */
export type Claim = {
  answered?: undefined;
  /** What went to the provider in place of the caller's own key. */
  upstreamKey: string;
  keep: (answer: Kept) => void;
  forget: () => void;
};

/** One that was answered before. */
type Answered = { answered: Kept & { body: Buffer } };

type Entry = { digest: string; size: number; expiresMs: number; kept: Kept | undefined };
type Asked = { owner: string; key: string; operation: string; body: Buffer };

const VISIBLE = /^[\x21-\x7e]{1,255}$/;
const KEPT_MS = 24 * 3_600_000;
const ENTRY_BYTES = 512;
const MOST_BYTES = { owner: 16 * 1024 ** 2, all: 64 * 1024 ** 2 } as const;

/** The largest answer that is kept; a larger one is remembered as answered, without its words. */
export const LARGEST_KEPT = 4 * 1024 ** 2;

/**
 * Remembers for a day what was answered under an Idempotency-Key, for each caller by itself: nobody can be answered with
 * what another asked for, or have a key spoiled by another. Whole answers only: a stream that broke off is worth asking
 * for again. It lives in memory, and within bounds: whoever sends too many keys has their own oldest forgotten first.
 */
export class IdempotencyMemory {
  readonly #now: () => number;
  // In the order of arrival, within an owner and over all.
  readonly #owners = new Map<string, Map<string, Entry>>();
  readonly #sizes = new Map<string, number>();
  #size = 0;

  constructor({ now }: { now: () => number }) {
    this.#now = now;
  }

  /** Takes the key for this request; throws when it is in use, or was used for another. */
  claim({ owner, key, operation, body }: Asked): Claim | Answered {
    if (!VISIBLE.test(key)) throw new ApiError('idempotency_key_malformed', { param: 'Idempotency-Key' });
    const digest = hash('sha256', `${operation}\n${hash('sha256', body, 'base64')}`, 'base64');
    const known = this.#find(owner, key);
    if (known !== undefined) return answerAgain(known, digest);
    const entry: Entry = { digest, size: 0, expiresMs: Infinity, kept: undefined };
    const owned = this.#owners.get(owner) ?? new Map<string, Entry>();
    this.#owners.set(owner, owned.set(key, entry));
    this.#grow(owner, entry, ENTRY_BYTES + key.length);
    return {
      upstreamKey: hash('sha256', `${owner}\n${key}`),
      keep: (kept) => {
        if (owned.get(key) !== entry) return;
        entry.kept = kept;
        entry.expiresMs = this.#now() + KEPT_MS;
        this.#grow(owner, entry, kept.body?.length ?? 0);
        this.#makeRoom(owner);
      },
      forget: () => this.#drop(owner, key, entry),
    };
  }

  /** How much is remembered, for whoever watches the bounds. */
  get bytes(): number {
    return this.#size;
  }

  #find(owner: string, key: string): Entry | undefined {
    const entry = this.#owners.get(owner)?.get(key);
    if (entry === undefined || this.#now() < entry.expiresMs) return entry;
    this.#drop(owner, key, entry);
    return undefined;
  }

  #grow(owner: string, entry: Entry, bytes: number): void {
    entry.size += bytes;
    this.#size += bytes;
    this.#sizes.set(owner, (this.#sizes.get(owner) ?? 0) + bytes);
  }

  #drop(owner: string, key: string, entry: Entry): void {
    const owned = this.#owners.get(owner);
    if (owned?.get(key) !== entry) return;
    owned.delete(key);
    this.#grow(owner, entry, -entry.size);
    if (owned.size > 0) return;
    this.#owners.delete(owner);
    this.#sizes.delete(owner);
  }

  #makeRoom(owner: string): void {
    while ((this.#sizes.get(owner) ?? 0) > MOST_BYTES.owner && this.#dropOldest(owner));
    while (this.#size > MOST_BYTES.all && this.#dropOldest(largest(this.#sizes)));
  }

  // What is still being answered stays: forgotten, it could be asked a second time beside the first.
  #dropOldest(owner: string): boolean {
    for (const [key, entry] of this.#owners.get(owner) ?? []) {
      if (entry.kept === undefined) continue;
      this.#drop(owner, key, entry);
      return true;
    }
    return false;
  }
}

function answerAgain({ digest, kept }: Entry, asked: string): Answered {
  if (digest !== asked) throw new ApiError('idempotency_mismatch', { param: 'Idempotency-Key' });
  if (kept === undefined) throw new ApiError('idempotency_in_progress', { headers: { 'retry-after': '1' } });
  if (kept.body === undefined) throw new ApiError('idempotency_too_large', { headers: { 'x-should-retry': 'false' } });
  return { answered: { ...kept, body: kept.body } };
}

function largest(sizes: ReadonlyMap<string, number>): string {
  let found = '';
  for (const [owner, size] of sizes) if (size > (sizes.get(found) ?? -1)) found = owner;
  return found;
}

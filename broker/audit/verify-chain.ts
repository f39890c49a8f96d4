import type { AuditEntry } from '../store/tables.ts';
import { beginningOf, hashOfEntry } from './entry.ts';
import { entriesOf, furthest, type Claim, type Found } from './finding.ts';
import { BEFORE_ALL, type StoredLog } from './stored-log.ts';

type Asked = { log: StoredLog; claims: readonly Claim[]; found: Found };

/** Looks at every entry of a chain, and whether it has what was claimed of it; gives how many entries there are. */
export async function verifyChain(chain: string, { log, claims, found }: Asked): Promise<number> {
  const row = await log.chain(chain);
  if (row === undefined) found({ chain, says: `The chain ${chain} has entries, and its row in audit_chains is gone.` });
  const walk = new ChainWalk(chain, row && beginningOf(row), { claims, found });
  for await (const entry of log.entries(chain, BEFORE_ALL)) walk.visit(entry);
  const now = await log.chain(chain);
  if (now !== undefined) {
    // An entry and the row of its chain are written together. So what the row counts can be read now, though a broker may
    // have written it since; and what was read before is not beyond what the row counts.
    for await (const entry of log.entries(chain, walk.last, now.length)) walk.visit(entry);
    walk.finish(now);
  }
  walk.hold();
  return walk.count;
}

/** The way through one chain. */
class ChainWalk {
  readonly #chain: string;
  readonly #found: Found;
  readonly #claims: readonly Claim[];
  #nextClaim = 0;
  #previous: string | undefined;
  last = 0;
  count = 0;

  constructor(chain: string, beginning: string | undefined, { claims, found }: Omit<Asked, 'log'>) {
    this.#chain = chain;
    this.#previous = beginning;
    this.#claims = claims.toSorted((a, b) => a.n - b.n);
    this.#found = found;
  }

  visit(entry: AuditEntry): void {
    const { n, hash } = entry;
    this.count++;
    if (!(Number.isSafeInteger(n) && n > this.last)) return this.#say(n, `has an entry ${n}, where none can be`);
    if (n > this.last + 1) {
      this.#say(this.last + 1, `is not whole: ${missing(this.last + 1, n - 1)}`);
      this.#previous = undefined;
    }
    if (this.#previous !== undefined && hashOfEntry(this.#previous, entry) !== hash) {
      const before = n === 1 ? 'the start of the chain' : `the hash of entry ${n - 1}`;
      this.#say(n, `was changed: entry ${n}, or ${before}, is not what was recorded`);
    }
    this.#compare(n, hash);
    // On from what stands here, so that the next change is found as well.
    this.#previous = hash;
    this.last = n;
  }

  /** Whether the row of the chain counts what was there. */
  finish({ length, head }: { length: number; head: string }): void {
    if (length > this.last) this.#say(this.last + 1, `is not whole: ${missing(this.last + 1, length)}`);
    else if (length < this.last) this.#say(length + 1, `has ${entriesOf(this.last)}, and its row counts ${length}`);
    else if (length === 0) this.#say(0, 'is empty, which no chain ever is');
    else if (head !== this.#previous) this.#say(length, 'has a last entry whose hash is not the one in its row');
  }

  /** Whether everything came that was claimed. */
  hold(): void {
    const beyond = this.#claims.filter(({ n }) => n > this.last);
    if (beyond.length === 0) return;
    const { n, by } = furthest(beyond);
    this.#say(this.last + 1, `was cut off after entry ${this.last}; ${by} vouches for ${entriesOf(n)}`);
  }

  #compare(n: number, hash: string): void {
    for (; (this.#claims[this.#nextClaim]?.n ?? Infinity) <= n; this.#nextClaim++) {
      const claim = this.#claims[this.#nextClaim]!;
      if (claim.n === n && claim.hash !== hash) {
        this.#say(n, `was written anew: its entry ${n} is not the one that ${claim.by} vouches for`);
      }
    }
  }

  #say(n: number, what: string): void {
    this.#found({ chain: this.#chain, n, says: `The chain ${this.#chain} ${what}.` });
  }
}

function missing(from: number, to: number): string {
  return from === to ? `entry ${from} is missing` : `entries ${from} to ${to} are missing`;
}

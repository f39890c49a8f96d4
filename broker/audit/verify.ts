import type { KeyObject } from 'node:crypto';
import type { AuditCheckpoint } from '../store/tables.ts';
import type { Witness } from './checkpoint-file.ts';
import { BEFORE_THE_FIRST, hashOfCheckpoint, headsOf, isSignedBy, type Head } from './checkpoint.ts';
import { entriesOf, furthest, type Claim, type Found } from './finding.ts';
import { BEFORE_ALL, type StoredLog } from './stored-log.ts';
import { verifyChain } from './verify-chain.ts';

/** How much was looked at; `outside` counts the checkpoints that were kept outside. */
export type Verified = { chains: number; entries: number; checkpoints: number; outside: number };

type Asked = {
  log: StoredLog;
  /** Undefined when there is none to be had; then no checkpoint can be believed. */
  publicKey: KeyObject | undefined;
  /** What was kept outside of the database. */
  witnesses?: AsyncIterable<Witness>;
  found: Found;
};

type Claims = Map<string, Claim[]>;
type Judging = { publicKey: KeyObject | undefined; claims: Claims; found: Found };

/**
 * Looks at every checkpoint, at what was kept outside, and then at every entry. What vouches is read before what it vouches
 * for, so this may run while a broker writes more of both.
 */
export async function verifyLog({ log, publicKey, witnesses, found }: Asked): Promise<Verified> {
  const claims: Claims = new Map();
  const walk = new CheckpointWalk({ publicKey, claims, found });
  await readable(found, {}, async () => {
    for await (const checkpoint of log.checkpoints(BEFORE_ALL)) walk.visit(checkpoint);
  });
  const { outside, doubtful } = await gather(witnesses, walk, { publicKey, claims, found });
  await readable(found, {}, async () => {
    // Those that were made while the others were read.
    for await (const checkpoint of log.checkpoints(walk.last)) walk.visit(checkpoint);
  });
  for (const checkpoint of doubtful) walk.compare(checkpoint);

  const verified = { chains: 0, entries: 0, checkpoints: walk.count, outside };
  for (const chain of await log.chains()) {
    verified.chains++;
    await readable(found, { chain }, async () => {
      verified.entries += await verifyChain(chain, { log, claims: claims.get(chain) ?? [], found });
    });
    claims.delete(chain);
  }
  for (const [chain, about] of claims) {
    const { n, by } = furthest(about);
    found({ chain, says: `The chain ${chain} is gone; ${by} vouches for ${entriesOf(n)} of it.` });
  }
  return verified;
}

/** The way through the checkpoints of the database. */
class CheckpointWalk {
  readonly #judging: Judging;
  readonly #hashes = new Map<number, string>();
  #previous: string | undefined = BEFORE_THE_FIRST;
  last = 0;
  count = 0;

  constructor(judging: Judging) {
    this.#judging = judging;
  }

  visit(checkpoint: AuditCheckpoint): void {
    const { n, previous } = checkpoint;
    const { publicKey, claims, found } = this.#judging;
    this.count++;
    if (!(Number.isSafeInteger(n) && n > this.last)) {
      return found({ n, says: `There is a checkpoint ${n}, which is no number of a checkpoint.` });
    }
    if (n > this.last + 1) {
      found({ n: this.last + 1, says: `${missing(this.last + 1, n - 1)}.` });
      this.#previous = undefined;
    }
    if (this.#previous !== undefined && previous !== this.#previous) {
      found({ n, says: `Checkpoint ${n} does not follow what stands before it; one of the two was changed.` });
    }
    const heads = headsOf(checkpoint);
    if (publicKey === undefined || heads === undefined || !isSignedBy(checkpoint, publicKey)) {
      found({ n, says: `Checkpoint ${n} is not signed by the key of this log; it was changed, or forged.` });
    } else {
      addClaims(claims, heads, `checkpoint ${n}`);
    }
    this.#previous = hashOfCheckpoint(checkpoint);
    this.#hashes.set(n, this.#previous);
    this.last = n;
  }

  has(checkpoint: AuditCheckpoint): boolean {
    return this.#hashes.get(checkpoint.n) === hashOfCheckpoint(checkpoint);
  }

  /** Whether a checkpoint that was kept outside is in the database too; if not, it is believed nevertheless. */
  compare(checkpoint: AuditCheckpoint): void {
    if (this.has(checkpoint)) return;
    const { n } = checkpoint;
    const says = this.#hashes.has(n)
      ? `Checkpoint ${n} in the database is not the one that was kept outside.`
      : `Checkpoint ${n} was kept outside, and is not in the database; it was removed, or the database is an older one.`;
    this.#judging.found({ n, says });
    addClaims(this.#judging.claims, headsOf(checkpoint) ?? [], `checkpoint ${n}, kept outside,`);
  }
}

/** What was kept outside, and of that the checkpoints that have not been met in the database. */
type Gathered = { outside: number; doubtful: AuditCheckpoint[] };

async function gather(witnesses: Asked['witnesses'], walk: CheckpointWalk, judging: Judging): Promise<Gathered> {
  const doubtful = new Map<string, AuditCheckpoint>();
  const furthestEntries = new Map<string, Head>();
  let outside = 0;
  for await (const witness of witnesses ?? []) {
    if ('entry' in witness) {
      const { entry } = witness;
      // A log may name millions; the last one of a chain holds those before it in place.
      if (entry.length > (furthestEntries.get(entry.chain)?.length ?? 0)) furthestEntries.set(entry.chain, entry);
      continue;
    }
    const { checkpoint } = witness;
    outside++;
    if (walk.has(checkpoint)) continue;
    if (judging.publicKey !== undefined && isSignedBy(checkpoint, judging.publicKey)) {
      doubtful.set(hashOfCheckpoint(checkpoint), checkpoint);
    } else {
      const { n } = checkpoint;
      judging.found({ n, says: `Checkpoint ${n}, kept outside, is not signed by the key of this log.` });
    }
  }
  addClaims(judging.claims, furthestEntries.values(), 'a line kept outside');
  return { outside, doubtful: [...doubtful.values()] };
}

function addClaims(claims: Claims, heads: Iterable<Head>, by: string): void {
  for (const { chain, length, head } of heads) {
    const claim = { n: length, hash: head, by };
    const about = claims.get(chain);
    if (about === undefined) claims.set(chain, [claim]);
    else about.push(claim);
  }
}

// SQLite holds numbers that are too large for JavaScript, and its driver throws rather than give another one.
async function readable(found: Found, place: { chain?: string }, read: () => Promise<void>): Promise<void> {
  try {
    await read();
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_OUT_OF_RANGE') throw error;
    const where = place.chain === undefined ? 'A checkpoint' : `The chain ${place.chain}`;
    found({ ...place, says: `${where} holds a number that no broker ever wrote.` });
  }
}

function missing(from: number, to: number): string {
  return from === to ? `Checkpoint ${from} is missing` : `Checkpoints ${from} to ${to} are missing`;
}

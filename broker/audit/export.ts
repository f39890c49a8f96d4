import type { KeyObject } from 'node:crypto';
import { beginningOf } from './entry.ts';
import { writePublicKey } from './signing-key.ts';
import { BEFORE_ALL, type StoredLog } from './stored-log.ts';

type Asked = { log: StoredLog; publicKey: KeyObject | undefined; sinceMs?: number };

/**
 * The log as one object a line, with all that it takes to verify it elsewhere. With a time, each chain begins at its first
 * entry that is not older; `after` says what stood before it.
 */
export async function* exportLog({ log, publicKey, sinceMs }: Asked): AsyncGenerator<Record<string, unknown>> {
  if (publicKey !== undefined) yield { auditKey: writePublicKey(publicKey) };
  // Before the entries: a broker may write on, and every entry that a checkpoint names shall follow.
  for await (const checkpoint of log.checkpoints(BEFORE_ALL)) {
    if (sinceMs === undefined || checkpoint.at >= sinceMs) yield { auditCheckpoint: checkpoint };
  }
  for (const id of await log.chains()) {
    const chain = await log.chain(id);
    let before = { n: 0, hash: chain && beginningOf(chain) };
    let isBegun = false;
    for await (const entry of log.entries(id, BEFORE_ALL, chain?.length)) {
      if (!isBegun && (sinceMs === undefined || entry.at >= sinceMs)) {
        isBegun = true;
        yield { auditChain: { id, ...chain, after: before } };
      }
      if (isBegun) yield { auditEntry: entry };
      before = { n: entry.n, hash: entry.hash };
    }
  }
}

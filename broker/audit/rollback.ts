import type { Reader } from '../store/database.ts';
import type { AuditCheckpoint } from '../store/tables.ts';
import { hashOfCheckpoint, headsOf } from './checkpoint.ts';

/**
 * Whether the database is behind a checkpoint that was kept outside of it, as one that was restored from a backup is: then
 * a sentence for the operator. Devices that were revoked since would be let in again.
 */
export async function olderThanCheckpoint(
  reader: Reader,
  last: AuditCheckpoint | undefined,
): Promise<string | undefined> {
  if (last === undefined) return undefined;
  const other = await withoutCheckpoint(reader, last);
  if (other !== undefined) return other;
  for (const { chain, length } of headsOf(last) ?? []) {
    const now = await reader.selectFrom('audit_chains').select('length').where('id', '=', chain).executeTakeFirst();
    if (now === undefined || now.length < length) {
      return `The database is older than ${described(last)}: the chain ${chain} had ${length} entries, and has ${now?.length ?? 0}.`;
    }
  }
  return undefined;
}

/** Whether the database lacks this very checkpoint: then a sentence for the operator. */
export async function withoutCheckpoint(reader: Reader, last: AuditCheckpoint): Promise<string | undefined> {
  const row = await reader.selectFrom('audit_checkpoints').selectAll().where('n', '=', last.n).executeTakeFirst();
  if (row === undefined) return `The database is older than ${described(last)}: that checkpoint is not in it.`;
  if (hashOfCheckpoint(row) === hashOfCheckpoint(last)) return undefined;
  return `The database is not the one of ${described(last)}: another checkpoint stands in its place.`;
}

function described({ n, at }: AuditCheckpoint): string {
  return `the checkpoint ${n} of its audit log, made at ${new Date(at).toISOString()}`;
}

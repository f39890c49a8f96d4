import { createHash } from 'node:crypto';
import type { AuditEntry } from '../store/tables.ts';

/** What of an entry is hashed: all of it. */
export type HashedEntry = Omit<AuditEntry, 'hash'>;

const CHAIN = 'sallyport/audit-chain/v1';
const ENTRY = 'sallyport/audit-entry/v1';

/** The hash that a chain begins with, as if it were that of an entry before the first. */
export function beginningOf(chain: { id: string; started_at: number }): string {
  return sha256(encode([CHAIN, chain.id, chain.started_at]));
}

/** The hash of an entry, which holds everything before it in place as well. */
export function hashOfEntry(previous: string, entry: HashedEntry): string {
  const { chain, n, at, actor, action, target, details, request_id } = entry;
  return sha256(encode([ENTRY, previous, chain, n, at, actor, action, target, details, request_id]));
}

/** SHA-256, in hex. */
export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

const NOTHING = 0xffffffff;

/**
 * Fields as bytes, each after its length in four bytes: no two lists of fields give the same bytes, whatever stands in
 * them. What is null has a length of its own, and no bytes.
 */
export function encode(fields: readonly (string | number | null)[]): Buffer {
  return Buffer.concat(
    fields.flatMap((field) => {
      const bytes = field === null ? Buffer.alloc(0) : Buffer.from(String(field));
      const length = Buffer.alloc(4);
      length.writeUInt32BE(field === null ? NOTHING : bytes.length);
      return [length, bytes];
    }),
  );
}

import { sign, verify, type KeyObject } from 'node:crypto';
import type { AuditCheckpoint } from '../store/tables.ts';
import { encode, sha256 } from './entry.ts';

/** How far a chain had come: its number of entries, and the hash of the last. */
export type Head = { chain: string; length: number; head: string };

/** What the first checkpoint names as the one before it. */
export const BEFORE_THE_FIRST = sha256(encode(['sallyport/audit-checkpoint/v1']));

/** Signs how far the chains had come. */
export function signCheckpoint(
  told: { n: number; at: number; heads: readonly Head[]; previous: string },
  key: { id: string; privateKey: KeyObject },
): AuditCheckpoint {
  const heads = JSON.stringify(told.heads.map(({ chain, length, head }) => [chain, length, head]));
  const unsigned = { n: told.n, at: told.at, heads, previous: told.previous, key_id: key.id };
  const signature = sign(null, signedBytes(unsigned), key.privateKey).toString('base64');
  return { ...unsigned, signature };
}

/** Whether a checkpoint is as it was signed with the other half of this key. */
export function isSignedBy(checkpoint: AuditCheckpoint, publicKey: KeyObject): boolean {
  const signature = Buffer.from(checkpoint.signature, 'base64');
  // Base64 can be written in many ways, and each would be an edit that nobody finds.
  if (signature.toString('base64') !== checkpoint.signature) return false;
  return verify(null, signedBytes(checkpoint), publicKey, signature);
}

/** What the next checkpoint says of this one, so that none can be taken out from between. */
export function hashOfCheckpoint(checkpoint: AuditCheckpoint): string {
  return sha256(encode([signedBytes(checkpoint).toString('base64'), checkpoint.signature]));
}

/** The chains that a checkpoint names; undefined when what stands there is no such list. */
export function headsOf({ heads }: Pick<AuditCheckpoint, 'heads'>): Head[] | undefined {
  const list = readJson(heads);
  if (!Array.isArray(list)) return undefined;
  const read = list.map((one: unknown) => {
    const [chain, length, head] = Array.isArray(one) ? (one as unknown[]) : [];
    const isHead = typeof chain === 'string' && Number.isSafeInteger(length) && typeof head === 'string';
    return isHead ? { chain, length: length as number, head } : undefined;
  });
  return read.every((head) => head !== undefined) ? read : undefined;
}

/** The checkpoint in a value that came from a file; undefined when it is none. */
export function asCheckpoint(value: unknown): AuditCheckpoint | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { n, at, heads, previous, key_id, signature } = value as Record<string, unknown>;
  const texts = [heads, previous, key_id, signature];
  if (!Number.isSafeInteger(n) || !Number.isSafeInteger(at)) return undefined;
  if (!texts.every((text) => typeof text === 'string')) return undefined;
  return { n, at, heads, previous, key_id, signature } as AuditCheckpoint;
}

/** The JSON in a text; undefined when it is none. */
export function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // A line of a log may be anything, and a cell of a table that someone edited too.
  }
}

function signedBytes({ n, at, heads, previous, key_id }: Omit<AuditCheckpoint, 'signature'>): Buffer {
  return encode(['sallyport/audit-checkpoint/v1', n, at, heads, previous, key_id]);
}

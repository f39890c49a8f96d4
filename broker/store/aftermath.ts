import { BackupError, type Row } from './backup.ts';
import { linesOf, openFile, parse, type Backup } from './read-backup.ts';

/** What happened after a backup was made, as far as it takes something away from a device. */
export type Aftermath = {
  devices: Set<string>;
  keys: Set<string>;
  /** Every device was shut out. */
  isAll: boolean;
};

/** An export of the audit log, which goes on where the backup ends. */
export type AuditExport = {
  aftermath: Aftermath;
  /** The part of the log that the backup does not have. */
  chains: Row[];
  entries: Row[];
  checkpoints: Row[];
  /** The time of the last entry. */
  knownUntil: number;
};

type Entry = { chain: string; n: number; at: number; action: string; target: string };

const OF_A_DEVICE = ['device.revoked', 'device.swept'];
// The key that has taken its place is not in the backup, so its device must enrol again; a key that was replaced may be one
// that was stolen.
const OF_A_KEY = ['key.rotated', 'key.retired', 'key.revoked'];
const OF_ALL = 'devices.revoked_all';

/** What entries are about that take something away. */
export const AFTERMATH_ACTIONS: readonly string[] = [...OF_A_DEVICE, ...OF_A_KEY, OF_ALL];

/** Adds what an entry of the audit log took away. */
export function note(aftermath: Aftermath, { action, target }: Pick<Entry, 'action' | 'target'>): void {
  if (OF_A_DEVICE.includes(action)) aftermath.devices.add(target);
  if (OF_A_KEY.includes(action)) aftermath.keys.add(target);
  if (action === OF_ALL) aftermath.isAll = true;
}

/** Nothing that is known of yet. */
export const noAftermath = (): Aftermath => ({ devices: new Set(), keys: new Set(), isAll: false });

/** Reads an audit export; refuses one with gaps, or which ends before the backup does, for it cannot know what came after. */
export async function readAuditExport(file: string, backup: Backup): Promise<AuditExport> {
  const read: AuditExport = { aftermath: noAftermath(), chains: [], entries: [], checkpoints: [], knownUntil: 0 };
  const reached = new Map<string, number>();
  const handle = await openFile(file, 'audit export');
  try {
    for await (const line of linesOf(handle, file)) {
      const { auditChain, auditEntry, auditCheckpoint } = (parse(line.toString()) ?? {}) as Record<string, Row>;
      if (auditChain !== undefined) read.chains.push(asChain(auditChain));
      if (auditCheckpoint !== undefined) read.checkpoints.push(auditCheckpoint);
      if (auditEntry === undefined) continue;
      const entry = asEntry(auditEntry, file);
      const had = backup.chains.get(entry.chain) ?? 0;
      const last = reached.get(entry.chain);
      if (last === undefined ? entry.n > had + 1 : entry.n !== last + 1) throw incomplete(file, entry.chain);
      reached.set(entry.chain, entry.n);
      read.knownUntil = Math.max(read.knownUntil, entry.at);
      if (entry.n <= had) continue;
      read.entries.push(auditEntry);
      note(read.aftermath, entry);
    }
  } finally {
    await handle.close();
  }
  if (reached.size === 0)
    throw new BackupError(`${file} is no export of an audit log; make one with: sallyport-broker audit export`);
  for (const [chain, length] of backup.chains) {
    if ((reached.get(chain) ?? 0) < length) throw incomplete(file, chain);
  }
  for (const { id, length } of read.chains) {
    if ((reached.get(String(id)) ?? 0) < Number(length)) throw incomplete(file, String(id));
  }
  return read;
}

// How the export tells where a chain begins is no column of ours.
function asChain({ id = null, started_at = null, length = null, head = null }: Row): Row {
  return { id, started_at, length, head };
}

function asEntry(row: Row, file: string): Entry {
  const { chain, n, at, action, target } = row;
  const isEntry = [chain, action, target].every((text) => typeof text === 'string') && Number.isSafeInteger(n);
  if (!isEntry || !Number.isSafeInteger(at)) throw new BackupError(`${file} has an entry that cannot be read.`);
  return row as Entry;
}

const incomplete = (file: string, chain: string) =>
  new BackupError(
    `${file} does not hold everything that followed the backup: entries of the chain ${chain} are missing. Export the whole log, without --since, at the latest moment that there is.`,
  );

import { sql } from 'kysely';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { AFTERMATH_ACTIONS, noAftermath, note, type AuditExport } from './aftermath.ts';
import { BackupError, countRows, PRIMARY_KEYS, type Row, type Table } from './backup.ts';
import type { Database, Transaction } from './database.ts';
import { readCounter } from './devices.ts';
import type { Backup } from './read-backup.ts';
import { isLive, settler, SHUT_OUT_BECAUSE, type Present } from './settle.ts';
import type { Counter } from './tables.ts';

/** From where it is known what happened after the backup. */
export type Since = {
  /** The database may have something in it already, and then tells. */
  replace: boolean;
  audit?: AuditExport;
  /** Nobody knows: every device has to enrol again. */
  revokeAll: boolean;
};

/** What came of a restore. */
export type Restored = {
  devices: number;
  /** Those of them that the backup would have let in, and that were shut out after it. */
  revoked: number;
  /** Those that were not, and have no key any more that is known here: they must enrol again. */
  keyless: number;
  /** Devices that the backup does not know: they were in the database, and stay. */
  kept: number;
};

type Settings = {
  now: () => number;
  /** Writes the entry of the audit log, as the last thing in the transaction. */
  record?: (tx: Transaction, restored: Restored) => Promise<void>;
};

const CHUNK = 100;

/**
 * Puts a backup back, whole or not at all. A backup does not know what happened after it, and must not let anyone in again
 * who was shut out: whatever was revoked, replaced or used in the database that is there, or by its audit log, stays so.
 */
export async function restore(database: Database, backup: Backup, since: Since, settings: Settings): Promise<Restored> {
  return database.write(async (tx) => {
    const present = await readPresent(tx);
    const isSameLog = await continues(tx, backup);
    checkSources(present, isSameLog, since);
    const aftermath = since.audit?.aftermath ?? noAftermath();
    if (isSameLog) for (const entry of await laterEntries(tx, backup)) note(aftermath, entry);

    const { revokeAll } = since;
    const settled = settler({ present, aftermath, revokeAll, nowMs: settings.now() });
    const { counters, latestEpoch } = await putRows(tx, backup, settled.settle);
    if (since.audit !== undefined) await putLog(tx, since.audit, backup.file);
    if (revokeAll) await shutOutAll(tx, settings.now());
    const raise = (name: Counter['name'], least: number) => raiseTo(tx, name, Math.max(least, counters.get(name) ?? 0));
    await raise('min_key_epoch', revokeAll ? (await highestEpoch(tx)) + 1 : aftermath.isAll ? latestEpoch + 1 : 0);
    const revision = Math.max(counters.get('identity_revision') ?? 0, await readCounter(tx, 'identity_revision'));
    await raise('identity_revision', revision + 1);

    const restored = { ...settled.counts(), keyless: await countKeyless(tx) };
    await settings.record?.(tx, restored);
    return restored;
  });
}

async function readPresent(tx: Transaction): Promise<Present> {
  const byId = <Held extends Row>(rows: Held[], id: string) => new Map(rows.map((row) => [String(row[id]), row]));
  const { devices, device_keys, invites, audit_entries } = await countRows(tx);
  const keys = await tx.selectFrom('device_keys').selectAll().execute();
  return {
    isEmpty: devices + device_keys + invites + audit_entries === 0,
    devices: byId(await tx.selectFrom('devices').selectAll().execute(), 'id'),
    keys: byId(keys, 'keyid'),
    invites: byId(await tx.selectFrom('invites').selectAll().execute(), 'id'),
    withLiveKey: new Set(keys.filter(isLive).map((key) => key.device_id)),
  };
}

// Only the database that the backup was made of knows what happened after it; another one, a fresh one that has enrolled
// its first device, would let everyone in again. They are told apart by the audit log: an act is not done without an entry.
async function continues(tx: Transaction, { chains, header }: Backup): Promise<boolean> {
  const rows = await tx.selectFrom('audit_chains').select(['id', 'length']).execute();
  const here = new Map(rows.map(({ id, length }) => [id, length]));
  if (chains.size === 0) return header.rows.devices === 0;
  return [...chains].every(([id, length]) => (here.get(id) ?? 0) >= length);
}

function checkSources(present: Present, isSameLog: boolean, { replace, audit, revokeAll }: Since): void {
  if (!present.isEmpty && !replace) {
    throw new BackupError(
      'The database is not empty. With --replace the backup is put over it; what was revoked, replaced or used there stays so.',
    );
  }
  if (audit !== undefined || revokeAll || (!present.isEmpty && isSameLog)) return;
  const here = present.isEmpty ? 'is empty' : 'is not the one that was backed up, or has lost its audit log';
  throw new BackupError(
    `A backup does not know who was shut out after it was made. Say where that is known: --replace takes it from the database that is there, which ${here}; --audit <file> takes it from a whole export of the audit log (sallyport-broker audit export); where nothing is left, say --revoke-all, and every device must enrol again.`,
  );
}

async function laterEntries(tx: Transaction, { chains }: Backup) {
  const entries = await tx
    .selectFrom('audit_entries')
    .select(['chain', 'n', 'action', 'target'])
    .where('action', 'in', AFTERMATH_ACTIONS)
    .execute();
  return entries.filter(({ chain, n }) => n > (chains.get(chain) ?? 0));
}

async function putRows(tx: Transaction, backup: Backup, settle: (table: Table, row: Row) => Row) {
  const counters = new Map<string, number>();
  let latestEpoch = -1;
  let table: Table = 'counters';
  let rows: Row[] = [];
  for await (const read of backup.rows()) {
    if (read.table === 'counters') {
      counters.set(String(read.row['name']), Number(read.row['value']));
      continue;
    }
    if (read.table === 'device_keys') latestEpoch = Math.max(latestEpoch, Number(read.row['epoch']));
    if (read.table !== table || rows.length === CHUNK) {
      await put(tx, table, rows, backup.file);
      rows = [];
    }
    table = read.table;
    rows.push(settle(table, read.row));
  }
  await put(tx, table, rows, backup.file);
  return { counters, latestEpoch };
}

async function putLog(tx: Transaction, { chains, entries, checkpoints }: AuditExport, file: string): Promise<void> {
  const inChunks = async (table: Table, rows: Row[]) => {
    for (let from = 0; from < rows.length; from += CHUNK) await put(tx, table, rows.slice(from, from + CHUNK), file);
  };
  await inChunks('audit_chains', chains);
  await inChunks('audit_entries', entries);
  await inChunks('audit_checkpoints', checkpoints);
}

// What is there of these tables is newer than the backup, or the same: the log and the keys that encrypt only ever grow.
const SETTLED: ReadonlySet<Table> = new Set(['devices', 'device_keys', 'invites']);

async function put(tx: Transaction, table: Table, rows: Row[], file: string): Promise<void> {
  const [first] = rows;
  if (first === undefined) return;
  const columns = Object.keys(first);
  const named = (names: readonly string[]) => sql.join(names.map((name) => sql.ref(name)));
  const excluded = (names: readonly string[]) =>
    sql.join(names.map((name) => sql`${sql.ref(name)} = ${sql.ref(`excluded.${name}`)}`));
  const values = rows.map((row) => sql`(${sql.join(columns.map((column) => row[column] ?? null))})`);
  const whenThere = SETTLED.has(table)
    ? sql`do update set ${excluded(columns)}`
    : table === 'audit_chains'
      ? sql`do update set ${excluded(['length', 'head'])} where excluded.length > audit_chains.length`
      : sql`do nothing`;
  const statement = sql`insert into ${sql.table(table)} (${named(columns)}) values ${sql.join(values)}
    on conflict (${named(PRIMARY_KEYS[table])}) ${whenThere}`;
  try {
    await statement.execute(tx);
  } catch (cause) {
    if (cause instanceof ApiError) throw cause;
    const says = `${file} does not fit into the table ${table} of this version: ${(cause as Error).message}.`;
    throw new BackupError(says, { cause });
  }
}

async function shutOutAll(tx: Transaction, nowMs: number): Promise<void> {
  await tx.updateTable('device_keys').set({ state: 'gone' }).where('state', '!=', 'gone').execute();
  await tx
    .updateTable('devices')
    .set({ revoked_at: nowMs, revoked_because: SHUT_OUT_BECAUSE })
    .where('revoked_at', 'is', null)
    .execute();
}

async function highestEpoch(tx: Transaction): Promise<number> {
  const row = await tx
    .selectFrom('device_keys')
    .select(({ fn }) => fn.max<number | null>('epoch').as('epoch'))
    .executeTakeFirst();
  return row?.epoch ?? 0;
}

async function raiseTo(tx: Transaction, name: Counter['name'], least: number): Promise<void> {
  const value = Math.max(least, await readCounter(tx, name));
  await tx
    .insertInto('counters')
    .values({ name, value })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ value }))
    .execute();
}

async function countKeyless(tx: Transaction): Promise<number> {
  const minEpoch = await readCounter(tx, 'min_key_epoch');
  const devices = await tx.selectFrom('devices').select('id').where('revoked_at', 'is', null).execute();
  const keys = await tx.selectFrom('device_keys').select(['device_id', 'state', 'epoch']).execute();
  const withKey = new Set(keys.filter((key) => isLive(key) && key.epoch >= minEpoch).map((key) => key.device_id));
  return devices.filter(({ id }) => !withKey.has(id)).length;
}

import { createHash } from 'node:crypto';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { sql } from 'kysely';
import { OperatorError } from '../log/operator-error.ts';
import { syncFolder } from './data-folder.ts';
import type { Database, Transaction } from './database.ts';
import type { Tables } from './tables.ts';

/** Thrown with a sentence for the operator when a backup cannot be written, read or restored. */
export class BackupError extends OperatorError {
  override name = 'BackupError';
}

type Keys = { [Name in Exclude<keyof Tables, 'migrations'>]: readonly (keyof Tables[Name] & string)[] };

/** The primary key of every table that is backed up, in an order in which rows can be put back: what is named comes first. */
export const PRIMARY_KEYS = {
  counters: ['name'],
  data_keys: ['id'],
  key_canaries: ['kek'],
  signing_keys: ['id'],
  invites: ['id'],
  devices: ['id'],
  device_keys: ['keyid'],
  audit_chains: ['id'],
  audit_entries: ['chain', 'n'],
  audit_checkpoints: ['n'],
} as const satisfies Keys;

/** A table of a backup. */
export type Table = keyof typeof PRIMARY_KEYS;

/** A row of any table, as it stands in a backup. */
export type Row = Record<string, string | number | null>;

/** The first line of a backup. */
export type Header = {
  format: typeof FORMAT;
  version: number;
  created_at: number;
  kind: Database['kind'];
  migrations: string[];
  rows: Record<Table, number>;
};

/** What can be told of a backup that was written. */
export type Written = { file: string; bytes: number; sha256: string; needsKeys: string[]; header: Header };

export const FORMAT = 'sallyport-backup';
export const FORMAT_VERSION = 1;
const PAGE = 500;
const TABLES = Object.keys(PRIMARY_KEYS) as Table[];

type Settings = { now: () => number; mayReplace: boolean };

/**
 * Writes everything to a file, as it was at one moment; brokers go on meanwhile. The file has its name once it is whole,
 * and only its owner may read it.
 */
export async function writeBackup(database: Database, file: string, { now, mayReplace }: Settings): Promise<Written> {
  if (!mayReplace && existsSync(file))
    throw new BackupError(`There is a file ${file} already; say --force to replace it.`);
  const draft = `${file}.partial`;
  const handle = await create(draft);
  let written: Omit<Written, 'file'>;
  try {
    written = await database.snapshot((tx) => writeAll(tx, handle, { created_at: now(), kind: database.kind }));
    await handle.sync();
  } catch (error) {
    rmSync(draft, { force: true });
    throw (error as NodeJS.ErrnoException).syscall === undefined ? error : unwritable(error);
  } finally {
    await handle.close();
  }
  renameSync(draft, file);
  syncFolder(dirname(file));
  return { file, ...written };
}

// Never over a file that is there: two backups at once would write into each other.
async function create(draft: string): Promise<FileHandle> {
  try {
    return await open(draft, 'wx', 0o600);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw unwritable(cause);
    throw new BackupError(
      `There is a file ${draft}: another backup is being written, or one was killed; then remove the file.`,
      { cause },
    );
  }
}

function unwritable(cause: unknown): BackupError {
  return new BackupError(
    `The backup cannot be written: ${(cause as Error).message}; name a file in a folder that is writable and has room.`,
    { cause },
  );
}

async function writeAll(tx: Transaction, handle: FileHandle, about: Pick<Header, 'created_at' | 'kind'>) {
  const hash = createHash('sha256');
  let bytes = 0;
  const write = async (lines: unknown[]) => {
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
    hash.update(text);
    bytes += Buffer.byteLength(text);
    await handle.writeFile(text);
  };
  const migrations = await tx.selectFrom('migrations').select('name').orderBy('name').execute();
  const header: Header = {
    format: FORMAT,
    version: FORMAT_VERSION,
    ...about,
    migrations: migrations.map(({ name }) => name),
    rows: await countRows(tx),
  };
  await write([header]);
  for (const table of TABLES) {
    for await (const rows of pagesOf(tx, table)) await write(rows.map((row) => [table, row]));
  }
  const sha256 = hash.copy().digest('hex');
  await write([{ sha256 }]);
  const keks = await tx.selectFrom('data_keys').select('kek').distinct().orderBy('kek').execute();
  return { bytes, sha256, needsKeys: keks.map(({ kek }) => kek), header };
}

/** How many rows each table has. */
export async function countRows(tx: Transaction): Promise<Record<Table, number>> {
  const counts = {} as Record<Table, number>;
  for (const table of TABLES) {
    const counted = await sql<{ rows: number }>`select count(*) as rows from ${sql.table(table)}`.execute(tx);
    counts[table] = Number(counted.rows[0]?.rows);
  }
  return counts;
}

async function* pagesOf(tx: Transaction, table: Table): AsyncGenerator<Row[]> {
  const keys = PRIMARY_KEYS[table];
  const columns = sql.join(keys.map((key) => sql.ref(key)));
  for (let last: Row | undefined; ;) {
    const behind = last === undefined ? sql`` : sql`where (${columns}) > (${sql.join(keys.map((key) => last![key]))})`;
    const page = sql<Row>`select * from ${sql.table(table)} ${behind} order by ${columns} limit ${PAGE}`;
    const { rows } = await page.execute(tx);
    if (rows.length > 0) yield rows;
    if (rows.length < PAGE) return;
    last = rows.at(-1);
  }
}

import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { BackupError, FORMAT, FORMAT_VERSION, PRIMARY_KEYS, type Header, type Row, type Table } from './backup.ts';
import { MIGRATION_NAMES } from './migrations.ts';

/** A backup that was read to its end once, and is what was written. */
export type Backup = {
  file: string;
  header: Header;
  /** How long each chain of the audit log was. */
  chains: ReadonlyMap<string, number>;
  /** Every row, in an order in which it can be put back. Throws at the end when the file has changed since. */
  rows: () => AsyncGenerator<{ table: Table; row: Row }>;
  close: () => Promise<void>;
};

const LONGEST_LINE = 16 * 1024 * 1024;
const CHUNK = 1024 * 1024;
const NEWLINE = 10;

/** Opens a backup and reads all of it: nothing is taken from one that is torn, was edited, or is of another kind. */
export async function openBackup(file: string): Promise<Backup> {
  const handle = await openFile(file, 'backup');
  try {
    const header = await readHeader(handle, file);
    const chains = new Map<string, number>();
    const counted = {} as Record<Table, number>;
    for await (const { table, row } of rowsOf(handle, file)) {
      counted[table] = (counted[table] ?? 0) + 1;
      if (table === 'audit_chains') chains.set(String(row['id']), Number(row['length']));
    }
    for (const [table, count] of Object.entries(header.rows)) {
      if ((counted[table as Table] ?? 0) !== count) throw edited(file);
    }
    return { file, header, chains, rows: () => rowsOf(handle, file), close: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Opens a file that an operator named. */
export async function openFile(file: string, noun: string): Promise<FileHandle> {
  return open(file).catch((cause: Error) =>
    Promise.reject(new BackupError(`The ${noun} cannot be read: ${cause.message}.`, { cause })),
  );
}

async function readHeader(handle: FileHandle, file: string): Promise<Header> {
  for await (const line of linesOf(handle, file)) {
    const header = asHeader(parse(line.toString()));
    if (header === undefined) break;
    const unknown = header.migrations.filter((name) => !MIGRATION_NAMES.includes(name));
    if (header.version > FORMAT_VERSION || unknown.length > 0) {
      const why = unknown.length > 0 ? ` (this one does not know ${unknown.join(', ')})` : '';
      throw new BackupError(`${file} was written by a newer version of Sallyport${why}; restore it with that one.`);
    }
    return header;
  }
  throw new BackupError(`${file} is no backup of Sallyport.`);
}

function asHeader(value: unknown): Header | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { format, version, created_at: createdAt, migrations, rows } = value as Record<string, unknown>;
  const isHeader =
    format === FORMAT &&
    Number.isSafeInteger(version) &&
    Number.isSafeInteger(createdAt) &&
    Array.isArray(migrations) &&
    migrations.every((name) => typeof name === 'string') &&
    typeof rows === 'object' &&
    rows !== null;
  return isHeader ? (value as Header) : undefined;
}

/** The rows, and at the end whether the last line is the hash of all that stands before it. */
async function* rowsOf(handle: FileHandle, file: string): AsyncGenerator<{ table: Table; row: Row }> {
  const hash = createHash('sha256');
  const shapes = new Map<Table, string>();
  let before: Buffer | undefined;
  let isFirst = true;
  for await (const line of linesOf(handle, file)) {
    if (before !== undefined) {
      hash.update(before).update('\n');
      if (!isFirst) yield asRow(before, shapes, file);
      isFirst = false;
    }
    before = line;
  }
  const { sha256 } = (parse(before?.toString() ?? '') ?? {}) as { sha256?: unknown };
  if (sha256 === undefined) throw torn(file);
  if (sha256 !== hash.digest('hex')) throw edited(file);
}

function asRow(line: Buffer, shapes: Map<Table, string>, file: string): { table: Table; row: Row } {
  const value = parse(line.toString());
  const [table, row] = (Array.isArray(value) ? value : []) as [unknown, unknown];
  if (typeof table !== 'string' || !Object.hasOwn(PRIMARY_KEYS, table) || typeof row !== 'object' || row === null) {
    throw edited(file);
  }
  const known = table as Table;
  // One statement takes many rows, so all have the columns of the first.
  const shape = Object.keys(row).join();
  if ((shapes.get(known) ?? shape) !== shape || !Object.values(row).every(isCell)) throw edited(file);
  shapes.set(known, shape);
  return { table: known, row: row as Row };
}

const isCell = (value: unknown) => value === null || typeof value === 'string' || Number.isSafeInteger(value);

/** The lines of a file, each ended by a line feed and by nothing else: a text may hold what other readers take for an end. */
export async function* linesOf(handle: FileHandle, file: string): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for (let at = 0; ;) {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(CHUNK), 0, CHUNK, at);
    if (bytesRead === 0) break;
    at += bytesRead;
    rest = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
    let from = 0;
    for (let end = rest.indexOf(NEWLINE); end !== -1; end = rest.indexOf(NEWLINE, from)) {
      yield rest.subarray(from, end);
      from = end + 1;
    }
    rest = rest.subarray(from);
    if (rest.length > LONGEST_LINE) throw new BackupError(`${file} has a line that is longer than any of ours.`);
  }
  if (rest.length > 0) throw torn(file);
}

/** The JSON in a line; undefined when it is none. */
export function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // Whatever file an operator names may be given here.
  }
}

const torn = (file: string) => new BackupError(`${file} is not whole: its end is missing. Use another copy.`);
const edited = (file: string) =>
  new BackupError(`${file} is not as it was written: its rows and its hash do not agree. Use another copy.`);

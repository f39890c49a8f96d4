import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import type { KeyObject } from 'node:crypto';
import { CHECKPOINT_FILE, readWitnesses } from '../audit/checkpoint-file.ts';
import { exportLog } from '../audit/export.ts';
import type { Finding } from '../audit/finding.ts';
import { findPublicKey, readPublicKey, writePublicKey } from '../audit/signing-key.ts';
import { storedLog } from '../audit/stored-log.ts';
import { verifyLog } from '../audit/verify.ts';
import type { Config } from '../config/config.ts';
import { DatabaseError, type Database } from '../store/database.ts';
import { openStore } from '../store/open-store.ts';
import type { Terminal } from './terminal.ts';

type Place = { config: Config; database: Database };
type VerifyOptions = { checkpoints?: string; publicKey?: KeyObject; json?: true };
type ListOptions = { limit: number; action?: string; target?: string };

// A log that was tampered with from end to end has a finding for each entry.
const MOST_SHOWN = 1000;

class AuditError extends Error {
  override name = 'AuditError';
}

/** `audit`: what was done to devices and keys, and whether the log of it is whole. May run beside a broker. */
export function auditCommand(terminal: Terminal): Command {
  const command = new Command('audit').description('read the audit log, and check that nobody has changed it');
  const onDatabase = <Options>(name: string, act: (place: Place, options: Options) => Promise<void>) =>
    command
      .command(name)
      .option('--config <file>', 'the configuration (default: $SALLYPORT_CONFIG, else ./sallyport.yaml)')
      .action(async (options: Options & { config?: string }) => {
        const config = terminal.readConfig(options.config);
        if (config === undefined) return terminal.exit(1);
        await withDatabase(config, terminal, (place) => act(place, options));
      });

  onDatabase<VerifyOptions>('verify', (place, options) => verify(place, options, terminal))
    .description('check every entry and every checkpoint; exits with 1 when anything was changed')
    .option('--checkpoints <file>', 'checkpoints kept elsewhere, an export, or a log of the broker')
    .option('--public-key <key>', 'the key that signs checkpoints, as `audit key` prints it', asPublicKey)
    .option('--json', 'print it as JSON');
  onDatabase<ListOptions>('list', (place, options) => list(place, options, terminal))
    .description('show the latest entries, the newest first')
    .option('--limit <number>', 'show at most so many', asLimit, 50)
    .option('--action <action>', 'only this action, as in device.enrolled')
    .option('--target <target>', 'only what was done to this device, key or invite');
  onDatabase<{ since?: number }>('export', (place, options) => writeExport(place, options, terminal))
    .description('print the log with all it takes to verify it, one JSON object a line')
    .option('--since <time>', 'leave out what is older, as in 2026-01-31 or 2026-01-31T12:00:00Z', asTime);
  onDatabase('key', (place) => key(place, terminal)).description(
    'print the public key that checkpoints are verified with, to be kept where the database is not',
  );
  return command;
}

async function withDatabase(config: Config, terminal: Terminal, act: (place: Place) => Promise<void>): Promise<void> {
  let database: Database | undefined;
  try {
    database = await openStore(config, terminal);
    await act({ config, database });
  } catch (error) {
    if (!(error instanceof DatabaseError || error instanceof AuditError)) throw error;
    terminal.say(error.message);
    terminal.exit(1);
  } finally {
    await database?.close();
  }
}

async function verify({ config, database }: Place, options: VerifyOptions, terminal: Terminal): Promise<void> {
  const own = join(config.data, CHECKPOINT_FILE);
  const file = options.checkpoints ?? (existsSync(own) ? own : undefined);
  if (file !== undefined && !existsSync(file)) throw new AuditError(`There is no file ${file}.`);
  const publicKey = options.publicKey ?? (await findPublicKey(database.read));
  const findings: Finding[] = [];
  let found = 0;
  const note = (finding: Finding) => {
    if (found++ < MOST_SHOWN) findings.push(finding);
  };
  const { outside, ...counts } = await verifyLog({
    log: storedLog(database.read),
    publicKey,
    ...(file !== undefined && { witnesses: readWitnesses(file) }),
    found: note,
  });
  if (options.checkpoints !== undefined && outside === 0) {
    throw new AuditError(
      `There is no checkpoint in ${file}; give a copy of ${CHECKPOINT_FILE}, or a log of the broker.`,
    );
  }
  // Whoever was given a key was given it by a broker that ran, and such a one makes checkpoints.
  if (options.publicKey !== undefined && counts.checkpoints === 0) note({ says: 'The database has no checkpoint.' });
  const isWhole = found === 0;
  if (options.json) {
    const by = options.publicKey === undefined ? 'the database' : 'the option';
    const shownKey = publicKey === undefined ? null : { key: writePublicKey(publicKey), by };
    const kept = file === undefined ? null : { file, checkpoints: outside };
    const report = { ok: isWhole, ...counts, outside: kept, public_key: shownKey, found, findings };
    terminal.write(`${JSON.stringify(report)}\n`);
  } else {
    for (const { says } of findings) terminal.write(`${printable(says)}\n`);
    if (found > MOST_SHOWN) terminal.write(`and ${found - MOST_SHOWN} more\n`);
    terminal.write(
      `${isWhole ? 'ok' : `${found} found`}: ${counts.entries} entries, ${counts.chains} chains, ${counts.checkpoints} checkpoints\n`,
    );
    terminal.say(file === undefined ? NOTHING_OUTSIDE : `Compared with ${outside} checkpoints kept in ${file}.`);
    if (options.publicKey === undefined) terminal.say(KEY_OF_THE_DATABASE);
  }
  if (!isWhole) terminal.exit(1);
}

const NOTHING_OUTSIDE =
  'Nothing that is kept outside of the database was compared: what was cut off at the end would not be missed. Give --checkpoints.';
const KEY_OF_THE_DATABASE =
  'The public key is the one in the database, and whoever owns the database owns that one too. Give --public-key.';

async function list({ database }: Place, { limit, action, target }: ListOptions, terminal: Terminal): Promise<void> {
  let query = database.read.selectFrom('audit_entries').selectAll().orderBy('at', 'desc').orderBy('n', 'desc');
  if (action !== undefined) query = query.where('action', '=', action);
  if (target !== undefined) query = query.where('target', '=', target);
  const rows = (await query.limit(limit).execute()).map((entry) => [
    timeOf(entry.at),
    entry.action,
    entry.target,
    `by ${entry.actor}`,
    entry.details === '{}' ? '' : entry.details,
    entry.request_id ?? '',
  ]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    const cells = row.map((cell, column) => printable(cell).padEnd(widths[column] ?? 0));
    terminal.write(`${cells.join('  ').trimEnd()}\n`);
  }
  if (rows.length === 0) terminal.say('There is no such entry.');
}

async function writeExport({ database }: Place, { since }: { since?: number }, terminal: Terminal): Promise<void> {
  const publicKey = await findPublicKey(database.read);
  const asked = { log: storedLog(database.read), publicKey, ...(since !== undefined && { sinceMs: since }) };
  for await (const line of exportLog(asked)) terminal.write(`${JSON.stringify(line)}\n`);
}

async function key({ database }: Place, terminal: Terminal): Promise<void> {
  const publicKey = await findPublicKey(database.read);
  if (publicKey === undefined) throw new AuditError('There is no key yet; a broker makes it when it first starts.');
  terminal.write(`${writePublicKey(publicKey)}\n`);
}

// Whatever stands there after somebody's edit is to be shown.
function timeOf(at: number): string {
  const time = new Date(at);
  return Number.isNaN(time.getTime()) ? String(at) : time.toISOString();
}

// A device chose its own name: it must not be able to move the cursor, or to turn the direction of a line.
function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\uFFFD');
}

function asPublicKey(text: string): KeyObject {
  const publicKey = readPublicKey(text);
  if (publicKey === undefined) throw new InvalidArgumentError('It is 32 bytes in base64, as `audit key` prints it.');
  return publicKey;
}

function asLimit(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError('It is a number from 1 to 9999.');
  return Number(text);
}

function asTime(text: string): number {
  const time = /^\d{4}-\d\d-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:\d\d))?$/.test(text) ? Date.parse(text) : NaN;
  if (Number.isNaN(time)) throw new InvalidArgumentError('It is a day, or a time with its zone.');
  return time;
}

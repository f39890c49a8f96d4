import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Command } from 'commander';
import { sql } from 'kysely';
import { AuditLog, OPERATOR_CHAIN } from '../audit/audit-log.ts';
import { CHECKPOINT_FILE, lastCheckpoint } from '../audit/checkpoint-file.ts';
import { olderThanCheckpoint } from '../audit/rollback.ts';
import type { Config } from '../config/config.ts';
import { OperatorError } from '../log/operator-error.ts';
import { readAuditExport } from '../store/aftermath.ts';
import { openDataFolder } from '../store/data-folder.ts';
import { APPLICATION_NAME, type Database } from '../store/database.ts';
import { Envelope } from '../store/envelope.ts';
import { openKeyRing } from '../store/key-ring.ts';
import { openStore } from '../store/open-store.ts';
import { openBackup, type Backup } from '../store/read-backup.ts';
import { restore, type Restored } from '../store/restore.ts';
import { reporting } from './reporting.ts';
import type { Terminal } from './terminal.ts';

type Options = { config?: string; replace?: true; audit?: string; revokeAll?: true; json?: true };

/** `restore`: puts a backup back, and keeps out whoever was shut out after it. No broker may run meanwhile. */
export function restoreCommand(terminal: Terminal): Command {
  return new Command('restore')
    .description('put a backup back, while no broker runs; who was shut out after it stays out')
    .argument('<file>', 'the backup')
    .option('--config <file>', 'the configuration (default: $SALLYPORT_CONFIG, else ./sallyport.yaml)')
    .option('--replace', 'over the database that is there, which knows what happened after the backup')
    .option('--audit <file>', 'a whole export of the audit log, which knows it too')
    .option('--revoke-all', 'nothing is left that knows it: every device must enrol again')
    .option('--json', 'print what was done as JSON')
    .action((file: string, options: Options) =>
      reporting(terminal, options, async (config) => {
        const folder = openDataFolder(config.data);
        try {
          const backup = await openBackup(file);
          try {
            await restoreInto(config, backup, options, terminal);
          } finally {
            await backup.close();
          }
        } finally {
          folder.close();
        }
      }),
    );
}

async function restoreInto(config: Config, backup: Backup, options: Options, terminal: Terminal): Promise<void> {
  const database = await openStore(config, terminal);
  try {
    await refuseCompany(database);
    const audit = options.audit === undefined ? undefined : await readAuditExport(options.audit, backup);
    const since = { replace: options.replace === true, revokeAll: options.revokeAll === true, ...(audit && { audit }) };
    const log = new AuditLog({ chain: OPERATOR_CHAIN, now: terminal.now });
    const restored = await restore(database, backup, since, {
      now: terminal.now,
      record: (tx, { devices, revoked, keyless, kept }) =>
        log.record(tx, {
          actor: 'operator',
          action: 'database.restored',
          target: backup.file,
          details: { backup_of: backup.header.created_at, devices, revoked, keyless, kept, ...sources(since) },
        }),
    });
    const moved = await makeWayForTheLog(config, database, terminal);
    const knownUntil = audit === undefined ? {} : { known_until: audit.knownUntil };
    if (options.json) terminal.write(`${JSON.stringify({ file: backup.file, ...restored, ...knownUntil, moved })}\n`);
    else tell(restored, terminal);
    if (audit !== undefined) terminal.say(`What happened is known until ${iso(audit.knownUntil)}.`);
    await checkRing(config, database, terminal);
  } finally {
    await database.close();
  }
}

const iso = (ms: number) => new Date(ms).toISOString();

const sources = (since: { replace: boolean; revokeAll: boolean; audit?: unknown }) => ({
  replace: since.replace,
  audit: since.audit !== undefined,
  revoke_all: since.revokeAll,
});

// The lock on the data folder holds off the broker of this machine. Others over the same Postgres know nothing of it.
async function refuseCompany({ kind, read }: Database): Promise<void> {
  if (kind === 'sqlite') return;
  const others = sql<{ count: number }>`
    select count(*) as count from pg_stat_activity
    where datname = current_database() and application_name = ${APPLICATION_NAME} and pid <> pg_backend_pid()
  `;
  // Of one that was stopped just now the server still knows for a moment.
  for (let looks = 1; (await others.execute(read)).rows[0]?.count !== 0; looks++) {
    if (looks === MOST_LOOKS) {
      throw new OperatorError('A broker or another command is connected to this database; stop every one first.');
    }
    await setTimeout(LOOK_AGAIN_MS);
  }
}

const MOST_LOOKS = 10;
const LOOK_AGAIN_MS = 100;

// A log that was not saved ends earlier now, and a broker that remembers more of it would refuse to start. That is right
// when someone puts an old file back; here it was said, and is written down.
async function makeWayForTheLog(config: Config, database: Database, terminal: Terminal): Promise<string | null> {
  const file = join(config.data, CHECKPOINT_FILE);
  if (!existsSync(file) || (await olderThanCheckpoint(database.read, lastCheckpoint(file))) === undefined) return null;
  const aside = `${file}.until-${iso(terminal.now()).replace(/[:.]/g, '-')}`;
  renameSync(file, aside);
  terminal.say(`The audit log of the backup ends before the checkpoints that were kept; they are in ${aside} now.`);
  return aside;
}

async function checkRing(config: Config, database: Database, { now, say }: Terminal): Promise<void> {
  const ring = await openKeyRing(config, database);
  const wrong = await new Envelope({ ring, now }).check(database);
  if (wrong !== undefined) say(wrong);
}

function tell({ devices, revoked, keyless, kept }: Restored, { write, say }: Terminal): void {
  write(`restored: ${devices} devices, ${revoked} of them shut out since; ${kept} that are newer were kept\n`);
  if (keyless > 0) say(`${keyless} devices have no key that is known here, and must enrol again.`);
  say('Open invitations of the backup are closed.');
}

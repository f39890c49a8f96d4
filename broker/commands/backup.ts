import { Command } from 'commander';
import { writeBackup } from '../store/backup.ts';
import { openStore } from '../store/open-store.ts';
import { reporting } from './reporting.ts';
import type { Terminal } from './terminal.ts';

type Options = { config?: string; force?: true; json?: true };

/** `backup`: the whole database in one file, written beside a running broker. */
export function backupCommand(terminal: Terminal): Command {
  return new Command('backup')
    .description('write the whole database to one file; brokers may go on meanwhile')
    .argument('<file>', 'where to')
    .option('--config <file>', 'the configuration (default: $SALLYPORT_CONFIG, else ./sallyport.yaml)')
    .option('--force', 'replace the file if there is one')
    .option('--json', 'print what was written as JSON')
    .action((file: string, options: Options) =>
      reporting(terminal, options, async (config) => {
        const database = await openStore(config, terminal);
        try {
          const settings = { now: terminal.now, mayReplace: options.force === true };
          const { bytes, sha256, needsKeys, header } = await writeBackup(database, file, settings);
          const { created_at: createdAt, kind, migrations, rows } = header;
          const report = { file, bytes, sha256, created_at: createdAt, kind, migrations, rows, needs_keys: needsKeys };
          if (options.json) return terminal.write(`${JSON.stringify(report)}\n`);
          terminal.write(`${file}: ${bytes} bytes, ${rows.devices} devices, ${rows.audit_entries} audit entries\n`);
          terminal.say(
            needsKeys.length === 0
              ? 'There is no secret in it yet.'
              : `The secrets in it are sealed; without the encryption keys ${needsKeys.join(', ')} it is of no use. Keep those elsewhere.`,
          );
        } finally {
          await database.close();
        }
      }),
    );
}

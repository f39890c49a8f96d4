import { Command } from 'commander';
import { migrate } from '../store/migrations.ts';
import { openUnmigrated } from '../store/open-store.ts';
import { reporting } from './reporting.ts';
import type { Terminal } from './terminal.ts';

/** `migrate`: brings the schema of the database up to this version, where a start is told not to. */
export function migrateCommand(terminal: Terminal): Command {
  return new Command('migrate')
    .description('bring the schema of the database up to this version; may run beside brokers, and twice')
    .option('--config <file>', 'the configuration (default: $SALLYPORT_CONFIG, else ./sallyport.yaml)')
    .action((options: { config?: string }) =>
      reporting(terminal, options, async (config) => {
        const database = await openUnmigrated(config, terminal);
        try {
          const done = await migrate(database, terminal.now);
          terminal.write(done.length === 0 ? 'nothing to do\n' : done.map((name) => `${name}\n`).join(''));
        } finally {
          await database.close();
        }
      }),
    );
}

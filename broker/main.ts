import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { auditCommand } from './commands/audit.ts';
import { backupCommand } from './commands/backup.ts';
import { callCommand } from './commands/call.ts';
import { devicesCommand } from './commands/devices.ts';
import { inviteCommand } from './commands/invite.ts';
import { configCommand } from './commands/config.ts';
import { keysCommand } from './commands/keys.ts';
import { migrateCommand } from './commands/migrate.ts';
import { restoreCommand } from './commands/restore.ts';
import { serveCommand } from './commands/serve.ts';
import type { Terminal } from './commands/terminal.ts';
import { readConfig } from './config/config.ts';
import packageJson from './package.json' with { type: 'json' };

/** The terminal this process runs in: the only place that knows the environment, the clock and the signals. */
export function createTerminal(): Terminal {
  return {
    readConfig(file) {
      const readFile = (path: string) => readFileSync(path, 'utf8');
      const { config, mistakes } = readConfig({ env: process.env, cwd: process.cwd(), file, readFile });
      for (const { place, says } of mistakes ?? []) process.stderr.write(`${place}\n  ${says}\n`);
      return config;
    },
    now: Date.now,
    say: (line) => void process.stderr.write(`${line}\n`),
    write: (text) => void process.stdout.write(text),
    exit: (code) => void (process.exitCode = code),
    untilAskedToStop: () =>
      new Promise((resolve) => {
        // Ctrl+C reaches us twice under npm, once from the terminal and once passed on; the second must not cut the first short.
        for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve(signal));
      }),
  };
}

if (import.meta.main) {
  const terminal = createTerminal();
  await new Command('sallyport-broker')
    .description('The broker of Sallyport: it holds the keys, and lets signed requests reach a model.')
    .version(packageJson.version)
    .addCommand(serveCommand(terminal))
    .addCommand(callCommand(terminal))
    .addCommand(inviteCommand(terminal))
    .addCommand(devicesCommand(terminal))
    .addCommand(configCommand(terminal))
    .addCommand(keysCommand(terminal))
    .addCommand(auditCommand(terminal))
    .addCommand(migrateCommand(terminal))
    .addCommand(backupCommand(terminal))
    .addCommand(restoreCommand(terminal))
    .parseAsync();
}

import { Command } from 'commander';
import type { Config } from '../config/config.ts';
import { reference } from '../config/reference.ts';
import type { Terminal } from './terminal.ts';

/** `config`: whether the configuration holds, and what can be written in it. */
export function configCommand(terminal: Terminal): Command {
  const command = new Command('config').description('check the configuration, or print its reference');

  command
    .command('check')
    .description('read the configuration as a start would, and report every mistake in it')
    .option('--config <file>', 'the file to read (default: $SALLYPORT_CONFIG, else ./sallyport.yaml)')
    .action(({ config: file }: { config?: string }) => {
      const config = terminal.readConfig(file);
      if (config === undefined) return terminal.exit(1);
      terminal.write(`ok: ${summary(config)}\n`);
    });

  command
    .command('docs')
    .description('print docs/configuration.md')
    .action(() => terminal.write(reference()));

  return command;
}

function summary({ providers, products, clients }: Config): string {
  return [count(providers, 'provider'), count(products, 'product'), count(clients, 'client')].join(', ');
}

function count(things: readonly unknown[], noun: string): string {
  return `${things.length} ${noun}${things.length === 1 ? '' : 's'}`;
}

import { Command } from 'commander';
import { openBroker } from '../broker.ts';
import { openLog } from '../log/logger.ts';
import { OperatorError } from '../log/operator-error.ts';
import type { Terminal } from './terminal.ts';

/** `serve`: the broker itself, in the foreground, until it is asked to stop. */
export function serveCommand(terminal: Terminal): Command {
  return new Command('serve')
    .description('run the broker in the foreground')
    .option('--config <file>', 'the configuration (default: $SALLYPORT_CONFIG, else ./sallyport.yaml)')
    .action(async ({ config: file }: { config?: string }) => {
      const config = terminal.readConfig(file);
      if (config === undefined) return terminal.exit(1);
      const { log, closeLog } = openLog({ level: config.log.level });
      try {
        const broker = await openBroker({ config, log, now: terminal.now, elapsedMs: () => performance.now() });
        log.info({ port: broker.port, fencedForMs: broker.fencedForMs() }, 'listening');
        log.flush();
        const signal = await terminal.untilAskedToStop();
        log.info({ signal }, 'stopping');
        await broker.stop();
        log.info('stopped');
      } catch (error) {
        if (!(error instanceof OperatorError)) throw error;
        terminal.say(error.message);
        terminal.exit(1);
      } finally {
        closeLog();
      }
    });
}

import { Command } from 'commander';
import { openDaemon } from '../daemon.ts';
import { openLog } from '../log.ts';
import { telling, type Terminal } from './terminal.ts';

/** `run`: the daemon itself, in the foreground, until it is asked to stop. */
export function runCommand(terminal: Terminal): Command {
  return new Command('run').description('run the daemon in the foreground').action(() =>
    telling(terminal, async () => {
      const { world, pid } = terminal;
      const config = terminal.readConfig();
      const log = openLog((line) => terminal.say(line.trimEnd()), world.now);
      // From the first moment: whoever reads that we listen may ask us to stop at once.
      const asked = terminal.untilAskedToStop();
      const daemon = await openDaemon({ config, world, log, pid });
      log.info({ port: daemon.port, addresses: daemon.addresses }, 'listening');
      const signal = await asked;
      log.info({ signal }, 'stopping');
      await daemon.stop();
      log.info({}, 'stopped');
    }),
  );
}

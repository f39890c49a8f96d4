import { Command } from 'commander';
import { askDaemon, controlPathOf } from '../control-socket.ts';
import { enrolledWords } from '../daemon.ts';
import { IdentityError } from '../identity-error.ts';
import { openSelf } from '../self.ts';
import { telling, type Terminal } from './terminal.ts';

/** `rotate`: a new key for this desktop, now. */
export function rotateCommand(terminal: Terminal): Command {
  return new Command('rotate')
    .description('make this desktop a new key now; no request is refused meanwhile')
    .action(() =>
      telling(terminal, async () => {
        const config = terminal.readConfig();
        const { world } = terminal;
        let told = (await askDaemon(controlPathOf(config.home, world.platform), 'rotate')) as
          { keyid: string } | undefined;
        if (told === undefined) {
          const self = await openSelf(config, world);
          if (self === undefined) throw new IdentityError('not_enrolled');
          told = enrolledWords(await self.identity.rotate(), self) as { keyid: string };
        }
        terminal.say(`The new key is ${told.keyid}.`);
      }),
    );
}

/** `forget`: the end of this desktop's access, as far as this machine is concerned. */
export function forgetCommand(terminal: Terminal): Command {
  return new Command('forget')
    .description('delete this desktop’s key; to come back it needs a new code')
    .option('--yes', 'really')
    .action(({ yes }: { yes?: true }) =>
      telling(terminal, async () => {
        if (!yes) {
          terminal.say('This deletes the key of this desktop, and a new code is needed to come back; say --yes.');
          return terminal.exit(2);
        }
        const config = terminal.readConfig();
        const { world } = terminal;
        const told = await askDaemon(controlPathOf(config.home, world.platform), 'forget');
        if (told === undefined) await (await openSelf(config, world))?.identity.forget();
        terminal.say('The key is deleted. Tell an administrator, who can revoke the device.');
      }),
    );
}

import { Command } from 'commander';
import { askDaemon, controlPathOf } from '../control-socket.ts';
import { enrolledWords } from '../daemon.ts';
import { beginSelf } from '../self.ts';
import { telling, type Terminal } from './terminal.ts';

type Options = { algorithm: string; json?: true };
type Told = {
  broker: string;
  device: string;
  name: string;
  products: string[];
  keychain: string;
  passedOver: { backend: string; why: string }[];
};

/** `enroll`: from an administrator's code to a key of this desktop's own. */
export function enrollCommand(terminal: Terminal): Command {
  return new Command('enroll')
    .description('enrol this desktop at a broker, with the code that an administrator gave you')
    .argument('<url>', 'the address of the broker, such as https://broker.example.com')
    .argument('[code]', 'the code; without it, it is asked for, or read from standard input')
    .option('--algorithm <name>', 'hmac-sha256, or ed25519, with which the broker keeps no secret', 'hmac-sha256')
    .option('--json', 'print it as JSON')
    .action((url: string, code: string | undefined, { algorithm, json }: Options) =>
      telling(terminal, async () => {
        if (algorithm !== 'hmac-sha256' && algorithm !== 'ed25519') {
          terminal.say('The algorithm is hmac-sha256 or ed25519.');
          return terminal.exit(2);
        }
        const config = terminal.readConfig();
        const typed = code ?? (await terminal.ask('Code: '));
        // The running daemon does it itself, for it would not notice what was changed behind its back.
        const path = controlPathOf(config.home, terminal.world.platform);
        let told = (await askDaemon(path, 'enrol', { url, code: typed, algorithm })) as Told | undefined;
        if (told === undefined) {
          const self = await beginSelf(config, terminal.world);
          told = enrolledWords(await self.identity.enrol({ url, code: typed, algorithm }), self) as Told;
        }
        if (json) return terminal.write(`${JSON.stringify(told)}\n`);
        for (const { backend, why } of told.passedOver) terminal.say(`Passed over the keychain ${backend}: ${why}`);
        terminal.say(
          `Enrolled at ${told.broker} as ${told.name} (${told.device}), for ${told.products.join(' and ')}.`,
        );
        terminal.say(`The key is in the keychain ${told.keychain}. Next: sallyport run, and sallyport apps add NAME.`);
      }),
    );
}

import { Command } from 'commander';
import { askDaemon, controlPathOf } from '../control-socket.ts';
import { statusOf, type Status } from '../daemon.ts';
import { openSelf } from '../self.ts';
import { columns, telling, type Terminal } from './terminal.ts';

type Told = Status & { running: boolean; port?: number; addresses?: string[]; apps?: number };

const NOT_ENROLLED = 3;
const DAEMON_DOWN = 4;

/** `status`: who this desktop is, whether the daemon runs, and what is wrong. */
export function statusCommand(terminal: Terminal): Command {
  return new Command('status')
    .description(
      'whether the daemon runs, and who this desktop is; exits with 3 when not enrolled, 4 when it does not run',
    )
    .option('--json', 'print it as JSON')
    .action(({ json }: { json?: true }) =>
      telling(terminal, async () => {
        const config = terminal.readConfig();
        const { world } = terminal;
        const running = (await askDaemon(controlPathOf(config.home, world.platform), 'status')) as Told | undefined;
        const told: Told = running ?? { ...statusOf(await whoWeAre()), running: false };
        if (json) terminal.write(`${JSON.stringify(told)}\n`);
        else terminal.write(columns(rowsOf(told)));
        if (told.state === 'none' || told.state === 'pending') terminal.exit(NOT_ENROLLED);
        else if (!told.running) terminal.exit(DAEMON_DOWN);

        // Without the daemon nobody has tried the keychain lately.
        async function whoWeAre() {
          const self = await openSelf(config, world);
          if (self?.identity.state === 'active') await self.identity.signingKey().catch(() => undefined);
          return self;
        }
      }),
    );
}

const STATES: Record<Status['state'], string> = {
  none: 'not enrolled; ask an administrator for a code: sallyport enroll',
  pending: 'an enrolment was begun and is not finished; run it again: sallyport enroll',
  active: 'enrolled',
  rotating: 'enrolled; a new key is being made',
  locked: 'enrolled, and the keychain does not give its key; unlock it',
};

function rowsOf(told: Told): [string, string][] {
  const { running, addresses = [], state, broker, device, keychain, apps, warnings } = told;
  return [
    ['daemon', running ? `runs at ${addresses.join(' and ')}` : 'does not run; start it: sallyport run'],
    ['identity', STATES[state]],
    ...(broker === null ? [] : ([['broker', broker]] as [string, string][])),
    ...(device === null ? [] : ([['device', device]] as [string, string][])),
    ...(keychain === null ? [] : ([['keychain', keychain]] as [string, string][])),
    ...(apps === undefined ? [] : ([['apps', String(apps)]] as [string, string][])),
    ...warnings.map((warning): [string, string] => ['warning', warning]),
  ];
}

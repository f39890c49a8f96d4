import { join } from 'node:path';
import { Command } from 'commander';
import { openApps, type App } from '../apps.ts';
import { askDaemon, controlPathOf } from '../control-socket.ts';
import { makePrivateFolder } from '../files.ts';
import { columns, telling, type Terminal } from './terminal.ts';

/** `apps`: the local programs that may ask, each by a token of its own. */
export function appsCommand(terminal: Terminal): Command {
  const command = new Command('apps').description('the local programs that may use this desktop’s access');

  command
    .command('add')
    .description('let one in: prints its token, once and only now')
    .argument('<name>', 'what it is called in lists')
    .option('--json', 'print it as JSON: {"token"}')
    .action((name: string, { json }: { json?: true }) =>
      telling(terminal, async () => {
        const { token } = (await ask('apps-add', { name }, (apps) => ({ token: apps.add(name) }))) as { token: string };
        terminal.write(json ? `${JSON.stringify({ token })}\n` : `${token}\n`);
        if (!json) terminal.say('Give it to the app as its API key. It cannot be shown again.');
      }),
    );

  command
    .command('list')
    .description('list them')
    .option('--json', 'print it as JSON')
    .action(({ json }: { json?: true }) =>
      telling(terminal, async () => {
        const list = (await ask('apps-list', {}, (apps) => apps.list())) as App[];
        if (json) return terminal.write(`${JSON.stringify(list)}\n`);
        if (list.length === 0) return terminal.say('There is no app yet; sallyport apps add NAME lets one in.');
        const until = ({ expiresAt }: App) => (expiresAt === undefined ? '' : `, until ${expiresAt}`);
        terminal.write(columns(list.map((app) => [app.name, `since ${app.createdAt}${until(app)}`])));
      }),
    );

  command
    .command('remove')
    .description('refuse its token from now on')
    .argument('<name>')
    .action((name: string) =>
      telling(terminal, async () => {
        const { removed } = (await ask('apps-remove', { name }, (apps) => ({ removed: apps.remove(name) }))) as {
          removed: boolean;
        };
        terminal.say(removed ? `${name} is refused from now on.` : `There is no app ${name}.`);
        if (!removed) terminal.exit(1);
      }),
    );

  // The running daemon keeps the list in memory, so it is the one to change it.
  async function ask(verb: string, asked: object, without: (apps: ReturnType<typeof openApps>) => unknown) {
    const { home } = terminal.readConfig();
    const { platform, now, random } = terminal.world;
    const told = await askDaemon(controlPathOf(home, platform), verb, asked);
    if (told !== undefined) return told;
    makePrivateFolder(home);
    return without(openApps({ file: join(home, 'apps.json'), now, random }));
  }

  return command;
}

import { Command } from 'commander';
import {
  askForRotation,
  listDevices,
  renameDevice,
  revokeAllDevices,
  revokeDevice,
  type DeviceNow,
} from '../control/devices.ts';
import { iso, type Records } from '../control/records.ts';
import { OperatorError } from '../log/operator-error.ts';
import type { Terminal } from './terminal.ts';
import { CONFIG_OPTION, withRecords } from './with-records.ts';

type Options = { config?: string; json?: true; because: string; yes?: true };

const BY = { actor: 'operator' };
const UNTIL_NOTICED = 'Every running broker knows within five seconds, and ends its streams.';

/** `devices`: the desktops that were enrolled. All of it may be done beside a running broker. */
export function devicesCommand(terminal: Terminal): Command {
  const command = new Command('devices').description('the desktops that were enrolled');
  const verb = (name: string, what: string) =>
    command
      .command(name)
      .description(what)
      .option(...CONFIG_OPTION);

  verb('list', 'list them, the latest first')
    .option('--json', 'print it as JSON')
    .action((options: Options) =>
      withRecords(terminal, options, async (records) => {
        const devices = (await listDevices(records)).map(described);
        if (options.json) return terminal.write(`${JSON.stringify(devices)}\n`);
        if (devices.length === 0) return terminal.say('There is no device yet; sallyport-broker invite lets one in.');
        const rows = devices.map(({ id, state, name, email, products, created_at: enrolled }) => [
          id,
          state,
          name,
          email ?? '-',
          products.join(','),
          enrolled,
        ]);
        terminal.write(aligned([['id', 'state', 'name', 'email', 'products', 'enrolled'], ...rows]));
      }),
    );

  verb('show', 'show one, by its id or its name')
    .argument('<device>')
    .option('--json', 'print it as JSON')
    .action((wanted: string, options: Options) =>
      withRecords(terminal, options, async (records) => {
        const device = described(await theOne(records, wanted));
        if (options.json) return terminal.write(`${JSON.stringify(device)}\n`);
        const { keys, ...facts } = device;
        const rows = Object.entries(facts).map(([name, value]) => [
          name,
          Array.isArray(value) ? value.join(', ') : String(value ?? '-'),
        ]);
        terminal.write(aligned([...rows, ...keys.map((key) => ['key', Object.values(key).join('  ')])]));
      }),
    );

  verb('rename', 'give one another name')
    .argument('<device>')
    .argument('<name>')
    .action((wanted: string, name: string, options: Options) =>
      withRecords(terminal, options, async (records) => {
        const { device } = await theOne(records, wanted);
        if (!/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]{1,100}$/u.test(name)) {
          throw new OperatorError('A name is one line of at most 100 visible characters.');
        }
        await renameDevice(records, device.id, name, BY);
        terminal.say(`${device.id} is called ${name} now.`);
      }),
    );

  verb('rotate', 'ask one to make itself a new key, with its next request')
    .argument('<device>')
    .action((wanted: string, options: Options) =>
      withRecords(terminal, options, async (records) => {
        const { device } = await theOne(records, wanted);
        if (!(await askForRotation(records, device.id, BY)))
          throw new OperatorError(`${device.id} is revoked; it has no key.`);
        terminal.say(`${device.id} will be asked for a new key.`);
      }),
    );

  verb('revoke', 'shut one out, for good')
    .argument('<device>')
    .option('--because <reason>', 'why, for the audit log', 'an operator revoked it')
    .action((wanted: string, options: Options) =>
      withRecords(terminal, options, async (records) => {
        const { device } = await theOne(records, wanted);
        const isNew = await revokeDevice(records, device.id, options.because, BY);
        terminal.say(
          isNew ? `${device.id} (${device.name}) is shut out. ${UNTIL_NOTICED}` : `${device.id} was revoked before.`,
        );
      }),
    );

  verb('revoke-all', 'shut every device out at once; each has to enrol again')
    .option('--because <reason>', 'why, for the audit log', 'an operator revoked all')
    .option('--yes', 'really')
    .action((options: Options) =>
      withRecords(terminal, options, async (records) => {
        if (!options.yes)
          throw new OperatorError('This shuts every device out, and each has to enrol again; say --yes.');
        const devices = await revokeAllDevices(records, options.because, BY);
        terminal.say(`${devices} ${devices === 1 ? 'device is' : 'devices are'} shut out. ${UNTIL_NOTICED}`);
      }),
    );

  return command;
}

async function theOne(records: Records, wanted: string): Promise<DeviceNow> {
  const [found, ...others] = await listDevices(records, wanted);
  if (found === undefined)
    throw new OperatorError(`There is no device ${wanted}; sallyport-broker devices list shows them.`);
  if (others.length === 0) return found;
  const ids = [found, ...others].map(({ device }) => device.id).join(', ');
  throw new OperatorError(`Several devices are called ${wanted}; use the id: ${ids}.`);
}

function described({ device, keys, state }: DeviceNow) {
  const { id, name, os, install_id, email, products, created_at, confirmed_at, revoked_at, revoked_because } = device;
  const moment = (ms: number | null) => (ms === null ? null : iso(ms));
  return {
    id,
    state,
    name,
    os,
    install_id,
    email,
    products: JSON.parse(products) as string[],
    created_at: iso(created_at),
    confirmed_at: moment(confirmed_at),
    revoked_at: moment(revoked_at),
    revoked_because,
    keys: keys.map((key) => ({
      keyid: key.keyid,
      algorithm: key.algorithm,
      state: key.state,
      created_at: iso(key.created_at),
      ...(key.not_after !== null && { not_after: iso(key.not_after) }),
    })),
  };
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

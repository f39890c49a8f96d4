import { randomBytes } from 'node:crypto';
import { Command } from 'commander';
import { Secret } from '@sallyport/protocol/secret.ts';
import type { Config } from '../config/config.ts';
import type { Database } from '../store/database.ts';
import { Envelope } from '../store/envelope.ts';
import { keyId, openKeyRing, type KeyRing } from '../store/key-ring.ts';
import { openStore } from '../store/open-store.ts';
import { reporting } from './reporting.ts';
import type { Terminal } from './terminal.ts';

type Store = { database: Database; ring: KeyRing; envelope: Envelope };
type Options = { config?: string; json?: true };

/** `keys`: the keys that encrypt what the database must not show. All of it may be done beside a running broker. */
export function keysCommand(terminal: Terminal): Command {
  const command = new Command('keys').description('the keys that encrypt secrets in the database');
  const onStore = (name: string, act: (store: Store, options: Options) => Promise<void>) =>
    command
      .command(name)
      .option('--config <file>', 'the configuration (default: $SALLYPORT_CONFIG, else ./sallyport.yaml)')
      .action((options: Options) =>
        reporting(terminal, options, (config) => withStore(config, terminal, (store) => act(store, options))),
      );

  command
    .command('new')
    .description('print a fresh key, and nothing else, on standard output')
    .action(() => {
      const key = new Secret(randomBytes(32));
      terminal.write(`${key.reveal().toString('base64')}\n`);
      terminal.say(
        `This is the encryption key ${keyId(key)}. Keep it where the database is not, and give it as ENCRYPTION_KEY; docs/storage.md says in which order a new key takes the place of an old one.`,
      );
    });

  onStore('list', (store, options) => list(store, options, terminal))
    .description('list the keys of the ring, and those that the database needs')
    .option('--json', 'print it as JSON');
  onStore('check', (store) => check(store, terminal)).description('whether the ring opens what the database holds');
  onStore('rotate', (store) => rotate(store, terminal)).description(
    'hand every data key over to the first key of the ring; the values stay as they are',
  );
  return command;
}

async function withStore(config: Config, terminal: Terminal, act: (store: Store) => Promise<void>): Promise<void> {
  const database = await openStore(config, terminal);
  try {
    const ring = await openKeyRing(config, database);
    await act({ database, ring, envelope: new Envelope({ ring, now: terminal.now }) });
  } finally {
    await database.close();
  }
}

async function list({ database, ring, envelope }: Store, { json }: Options, terminal: Terminal) {
  const rows = (await envelope.keys(database)).map(({ id, isInRing, dataKeys }) => ({
    id,
    role: !isInRing ? 'missing' : id === ring.primary.id ? 'primary' : 'decrypts',
    data_keys: dataKeys,
  }));
  if (json) return terminal.write(`${JSON.stringify(rows)}\n`);
  for (const { id, role, data_keys: dataKeys } of rows) {
    terminal.write(`${id}  ${role.padEnd(8)}  ${count(dataKeys, 'data key')}\n`);
  }
}

async function check({ database, ring, envelope }: Store, terminal: Terminal): Promise<void> {
  const wrong = await envelope.check(database);
  if (wrong === undefined) {
    return terminal.write(`ok: ${count(ring.keys.length, 'key')}, and nothing in the database needs another\n`);
  }
  terminal.say(wrong);
  terminal.exit(1);
}

async function rotate({ database, ring, envelope }: Store, terminal: Terminal): Promise<void> {
  const done = await envelope.rewrap(database, (soFar, left) => terminal.say(`${soFar} done, ${left} left`));
  terminal.write(`${count(done, 'data key')} handed over to ${ring.primary.id}\n`);
  const free = (await envelope.keys(database)).filter(({ id, dataKeys }) => id !== ring.primary.id && dataKeys === 0);
  for (const { id } of free) {
    terminal.write(
      `${id} holds nothing any more; once every broker has ${ring.primary.id} first, it may be taken out of the ring, and is needed for old backups only\n`,
    );
  }
  const wrong = await envelope.check(database);
  if (wrong === undefined) return;
  terminal.say(wrong);
  terminal.exit(1);
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

import { randomBytes } from 'node:crypto';
import { Command, InvalidArgumentError } from 'commander';
import { codeFrom, writeCode } from '@sallyport/protocol/enrolment.ts';
import type { Config } from '../config/config.ts';
import { invite } from '../control/invites.ts';
import { iso } from '../control/records.ts';
import { OperatorError } from '../log/operator-error.ts';
import type { Terminal } from './terminal.ts';
import { CONFIG_OPTION, withRecords } from './with-records.ts';

type Options = {
  config?: string;
  product: string[];
  name?: string;
  email?: string;
  minutes: number;
  json?: true;
  printCode?: true;
};

const USUAL_MINUTES = 10;
const MOST_MINUTES = 24 * 60;

/** `invite`: a code with which one desktop enrols, once. */
export function inviteCommand(terminal: Terminal): Command {
  return new Command('invite')
    .description('invite one desktop: prints the code that it enrols with, once and only now')
    .option(
      '--product <name>',
      'a product that it may use; may be given again (default: the only one there is)',
      collect,
      [],
    )
    .option('--name <name>', 'what the device is to be called (default: what it calls itself)', asLine)
    .option('--email <address>', 'whose it is', asLine)
    .option('--minutes <number>', `how long the code is good, up to ${MOST_MINUTES}`, asMinutes, USUAL_MINUTES)
    .option('--json', 'print it as JSON: {"code", "expires_at"}')
    .option('--print-code', 'only make a code, for SALLYPORT_FIRST_INVITE; nothing is written anywhere')
    .option(...CONFIG_OPTION)
    .action(async (options: Options) => {
      if (options.printCode) return terminal.write(`${writeCode(codeFrom(randomBytes(16)))}\n`);
      await withRecords(terminal, options, async (records, config) => {
        const products = chooseProducts(config, options.product);
        const invitation = { products, name: options.name, email: options.email, validMs: options.minutes * 60_000 };
        const { code, expiresAt } = await invite(records, invitation, { actor: 'operator' });
        const shown = { code, expires_at: iso(expiresAt) };
        if (options.json) return terminal.write(`${JSON.stringify(shown)}\n`);
        terminal.write(`${code}\n`);
        const where = config.publicUrl ?? `http://127.0.0.1:${config.listen.port}`;
        terminal.say(
          `Good for one desktop, for ${products.join(' and ')}, until ${shown.expires_at}. There: sallyport enroll ${where}`,
        );
      });
    });
}

function chooseProducts({ products }: Config, wanted: readonly string[]): string[] {
  const names = products.map(({ name }) => name);
  if (wanted.length === 0 && names.length === 1) return names;
  const unknown = wanted.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new OperatorError(`There is no product ${unknown}; there is ${listed(names)}.`);
  if (wanted.length === 0) throw new OperatorError(`Name a product with --product; there is ${listed(names)}.`);
  return [...new Set(wanted)];
}

function listed(names: readonly string[]): string {
  return names.join(', ') || 'none in the configuration';
}

function collect(name: string, before: string[]): string[] {
  return [...before, name];
}

function asMinutes(text: string): number {
  const minutes = Number(text);
  if (!Number.isInteger(minutes) || minutes < 1 || minutes > MOST_MINUTES) {
    throw new InvalidArgumentError(`Write a whole number from 1 to ${MOST_MINUTES}.`);
  }
  return minutes;
}

function asLine(text: string): string {
  if (!/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]{1,100}$/u.test(text)) {
    throw new InvalidArgumentError('Write one line of at most 100 visible characters.');
  }
  return text;
}

import { createSecretKey } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { Command } from 'commander';
import type { SigningKey } from '@sallyport/protocol/keys.ts';
import type { Config } from '../config/config.ts';
import { sendSigned } from './signed-request.ts';
import type { Terminal } from './terminal.ts';

type Options = { config?: string; client?: string; product?: string; model?: string; stream: boolean };
type Product = Config['products'][number];

/** `call`: signs one chat as a client of this configuration would, and prints the answer as it streams. */
export function callCommand(terminal: Terminal): Command {
  return new Command('call')
    .description('sign a chat, send it to the broker and print the answer')
    .argument('<text...>', 'what to say')
    .option('--config <file>', 'the configuration (default: $SALLYPORT_CONFIG, else ./sallyport.yaml)')
    .option('--client <name>', 'sign as this client (default: the first that has a secret)')
    .option('--product <name>', 'under this product (default: the first of the client)')
    .option('--model <name>', 'ask this model (default: the first that the product spells out)')
    .option('--no-stream', 'wait for the whole answer')
    .action(async (text: string[], options: Options) => {
      const config = terminal.readConfig(options.config);
      if (config === undefined) return terminal.exit(1);
      try {
        await call(config, text.join(' '), options, terminal);
      } catch (error) {
        if (!(error instanceof CallError)) throw error;
        terminal.say(error.message);
        terminal.exit(1);
      }
    });
}

class CallError extends Error {
  override name = 'CallError';
}

async function call(config: Config, text: string, options: Options, terminal: Terminal): Promise<void> {
  const { key, products } = chooseClient(config, options.client);
  const product = chooseProduct(config, products, options.product);
  const model = options.model ?? product.models.find((name) => !name.includes('*'));
  if (model === undefined)
    throw new CallError(`The product ${product.name} spells out no model; name one with --model.`);
  const base = new URL(config.publicUrl ?? `http://127.0.0.1:${config.listen.port}`);
  const body = Buffer.from(
    JSON.stringify({ model, messages: [{ role: 'user', content: text }], stream: options.stream }),
  );
  const asked = {
    base,
    key,
    method: 'POST',
    path: '/v1/chat/completions',
    product: product.name,
    body,
    now: terminal.now,
  };
  const answer = await sendSigned(asked, terminal.say).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === 'ECONNREFUSED' ? 'nothing listens there; start it with npm start' : cause.message;
    throw new CallError(`No broker answers at ${base.origin}: ${why}.`);
  });
  if (answer.statusCode !== 200) throw new CallError(await refusal(answer));
  if (options.stream) await printStream(answer, terminal);
  else terminal.write(JSON.parse(await readAll(answer)).choices[0].message.content);
  terminal.write('\n');
}

function chooseClient(config: Config, name: string | undefined): { key: SigningKey; products: readonly string[] } {
  for (const client of config.clients) {
    if (name !== undefined && client.name !== name) continue;
    if (client.key.algorithm === 'hmac-sha256') {
      const key = createSecretKey(client.key.secret.reveal());
      return { key: { keyid: client.name, algorithm: 'hmac-sha256', key }, products: client.products };
    }
    if (name !== undefined) throw new CallError(`The private key of ${name} is not here, only its public half.`);
  }
  throw new CallError(
    name === undefined
      ? 'The configuration has no client with a secret; add one under clients.'
      : `There is no client ${name}.`,
  );
}

function chooseProduct(config: Config, allowed: readonly string[], name: string | undefined): Product {
  const wanted = name ?? allowed[0];
  const product = config.products.find((one) => one.name === wanted && allowed.includes(one.name));
  if (product === undefined) {
    throw new CallError(`That client may use ${allowed.join(', ') || 'no product'}; name one with --product.`);
  }
  return product;
}

async function printStream(answer: IncomingMessage, terminal: Terminal): Promise<void> {
  let rest = '';
  let isWhole = false;
  answer.setEncoding('utf8');
  try {
    for await (const piece of answer as AsyncIterable<string>) {
      const lines = (rest + piece).split('\n');
      rest = lines.pop()!;
      for (const line of lines) isWhole = printEvent(line, terminal) || isWhole;
    }
  } catch (error) {
    if (error instanceof CallError) throw error;
    throw brokeOff(error);
  }
  if (!isWhole) throw new CallError('\nThe answer broke off before its end.');
}

function printEvent(line: string, terminal: Terminal): boolean {
  if (!line.startsWith('data: ')) return false;
  if (line === 'data: [DONE]') return true;
  const event = JSON.parse(line.slice('data: '.length));
  if (event.error !== undefined) throw new CallError(`\n${event.error.message}`);
  terminal.write(event.choices[0]?.delta.content ?? '');
  return false;
}

function brokeOff(error: unknown): CallError {
  return new CallError(`\nThe answer broke off: ${(error as Error).message}.`);
}

async function refusal(answer: IncomingMessage): Promise<string> {
  const text = await readAll(answer);
  try {
    const { message, code } = JSON.parse(text).error;
    return `${message} (${answer.statusCode} ${code})`;
  } catch {
    // Not our broker, or something in front of it: its own words are the best that can be shown.
    return `The answer is ${answer.statusCode}: ${text.slice(0, 500)}`;
  }
}

async function readAll(answer: IncomingMessage): Promise<string> {
  try {
    return Buffer.concat(await answer.toArray()).toString();
  } catch (error) {
    throw brokeOff(error);
  }
}

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EMPTY_SNAPSHOT, SNAPSHOT } from '../auth/replay-handover.ts';
import { openBroker, type Broker } from '../broker.ts';
import { readConfig, type Config } from '../config/config.ts';
import { openLog } from '../log/logger.ts';
import { callCommand } from './call.ts';
import type { Terminal } from './terminal.ts';

const SECRET = randomBytes(32).toString('hex');

const yaml = (port: number, more = '') => `
public_url: "http://127.0.0.1:${port}"
listen: { port: ${port} }
data: ./data
providers:
  echo: { kind: echo, models: [echo, other] }
products:
  playground: { models: [echo] }
  patterns: { models: ["*"] }
clients:
  robot: { public_key: "${'A'.repeat(43)}=", products: [playground] }
  desktop: { secret: "hex:${SECRET}", products: [playground, patterns] }
${more}`;

describe('call', () => {
  let folder: string;
  let broker: Broker | undefined;
  const { log, closeLog } = openLog({ level: 'silent', destination: { write: () => {} } });

  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'sallyport-call-'))));
  afterEach(async () => {
    await broker?.stop({ finishMs: 0 });
    broker = undefined;
    rmSync(folder, { recursive: true });
  });
  after(closeLog);

  function config(text: string): Config {
    const reading = readConfig({ env: {}, cwd: folder, readFile: () => text });
    assert.ok(reading.config, JSON.stringify(reading.mistakes));
    return reading.config;
  }

  /** A real broker on a free port, and the configuration by which a client finds it. */
  async function open({ isAheadMs = 0 } = {}): Promise<Config> {
    const inside = config(yaml(0));
    // A port that is only known now cannot stand in public_url; the Host of a loopback caller is believed without one.
    const { publicUrl: _, ...settings } = { ...inside, authorities: [] };
    const data = join(folder, 'data');
    mkdirSync(data, { recursive: true });
    writeFileSync(join(data, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT));
    const now = () => Date.now() + isAheadMs;
    broker = await openBroker({ config: settings, log, now, elapsedMs: () => performance.now() });
    return config(yaml(broker.port));
  }

  /** A terminal that is not one: it keeps what would have been shown. */
  async function call(read: Config | undefined, ...words: string[]) {
    const shown = { said: [] as string[], written: '', code: 0 };
    const terminal: Terminal = {
      readConfig: () => read,
      now: Date.now,
      say: (line) => void shown.said.push(line),
      write: (text) => void (shown.written += text),
      exit: (code) => void (shown.code = code),
      untilAskedToStop: () => Promise.resolve('SIGTERM'),
    };
    await callCommand(terminal).parseAsync(words, { from: 'user' });
    return shown;
  }

  const ECHO = 'This is the built-in echo, not an AI model. You said: hello there\n';

  for (const how of [[], ['--no-stream'], ['--client', 'desktop', '--product', 'playground', '--model', 'echo']]) {
    it(`prints the answer of the model: ${how.join(' ') || 'as it streams'}`, async () => {
      const shown = await call(await open(), ...how, 'hello', 'there');
      assert.deepEqual(shown, { said: [], written: ECHO, code: 0 });
    });
  }

  it('corrects a clock that is off by the word of the broker', async () => {
    const shown = await call(await open({ isAheadMs: 3_600_000 }), 'hello', 'there');
    assert.deepEqual(shown, { said: [], written: ECHO, code: 0 });
  });

  it('says the refusal of the broker, and fails', async () => {
    const shown = await call(await open(), '--model', 'other', 'hello');
    assert.equal(shown.code, 1);
    assert.equal(shown.written, '');
    assert.match(
      shown.said.join(),
      /^The model other is not among those of the product playground; .* \(400 model_not_allowed\)$/,
    );
  });

  it('says what a provider could not do', async () => {
    for (const how of ['--stream', '--no-stream']) {
      const shown = await call(await open(), ...(how === '--stream' ? [] : [how]), '/fail 500');
      assert.match(shown.said.join(), /^The model provider could not serve this request; .* \(502 upstream_failed\)$/);
      assert.equal(shown.code, 1);
      await broker!.stop({ finishMs: 0 });
      broker = undefined;
      rmSync(join(folder, 'data'), { recursive: true });
    }
  });

  it('says that a stream was cut, after what had come', async () => {
    const shown = await call(await open(), '/words 5\n/cut 2');
    assert.equal(shown.written, 'word1 word2 ');
    assert.match(shown.said.join(), /^\nThe model provider’s answer broke off before its end/);
    assert.equal(shown.code, 1);
  });

  it('says that a whole answer was cut, and shows none of it', async () => {
    const shown = await call(await open(), '--no-stream', '/words 5\n/pause 20\n/cut 2');
    assert.equal(shown.written, '');
    assert.match(shown.said.join(), /^\nThe answer broke off: /);
    assert.equal(shown.code, 1);
  });

  it('does not take a stream that ends politely in the middle for a whole one', async () => {
    const event = `data: ${JSON.stringify({ choices: [{ delta: { content: 'half' } }] })}\n\n`;
    const server = createServer((_, response) => void response.end(event));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const shown = await call(config(yaml((server.address() as AddressInfo).port)), 'hello');
    server.closeAllConnections();
    server.close();
    assert.deepEqual(shown, { said: ['\nThe answer broke off before its end.'], written: 'half', code: 1 });
  });

  it('says that nobody is there', async () => {
    const read = await open();
    await broker!.stop({ finishMs: 0 });
    broker = undefined;
    const shown = await call(read, 'hello');
    assert.match(
      shown.said.join(),
      /^No broker answers at http:\/\/127\.0\.0\.1:\d+: nothing listens there; start it with npm start\.$/,
    );
    assert.deepEqual([shown.written, shown.code], ['', 1]);
  });

  for (const [why, words, says] of [
    ['there is no such client', ['--client', 'nobody'], /^There is no client nobody\.$/],
    ['only the public half of its key is here', ['--client', 'robot'], /^The private key of robot is not here/],
    [
      'the client may not use the product',
      ['--product', 'other'],
      /^That client may use playground, patterns; name one/,
    ],
    [
      'the product spells out no model',
      ['--product', 'patterns'],
      /^The product patterns spells out no model; name one with/,
    ],
  ] as const) {
    it(`fails with a sentence, and sends nothing, when ${why}`, async () => {
      const shown = await call(config(yaml(1)), ...words, 'hello');
      assert.match(shown.said.join(), says);
      assert.deepEqual([shown.written, shown.code], ['', 1]);
    });
  }

  it('fails when the configuration cannot be read, and leaves the words to whoever read it', async () => {
    assert.deepEqual(await call(undefined, 'hello'), { said: [], written: '', code: 1 });
  });
});

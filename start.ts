import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { EMPTY_SNAPSHOT, SNAPSHOT } from './broker/auth/replay-handover.ts';
import { openBroker } from './broker/broker.ts';
import { createTerminal } from './broker/main.ts';
import { openLog } from './broker/log/logger.ts';
import { OperatorError } from './broker/log/operator-error.ts';

// What `npm start` runs: the product on this machine, ready to be tried, with everything it needs made on the first start.

const folder = join(import.meta.dirname, '.sallyport');
const file = join(folder, 'sallyport.yaml');
const terminal = createTerminal();

if (!existsSync(file)) makeFirstConfig();
const config = terminal.readConfig(file);
if (config === undefined) process.exit(1);
const logFile = join(folder, 'broker.log');
const { log, closeLog } = openLog({ level: config.log.level, file: logFile });
try {
  const broker = await openBroker({ config, log, now: terminal.now, elapsedMs: () => performance.now() });
  const asked = terminal.untilAskedToStop();
  const waitMs = broker.fencedForMs();
  if (waitMs > 0) {
    terminal.say(
      `The last run did not stop cleanly; waiting ${Math.ceil(waitMs / 1000)} s, until no signature from then can be used again.`,
    );
  }
  const first = await Promise.race([asked, setTimeout(waitMs, 'ready', { ref: false })]);
  if (first === 'ready') terminal.say(welcome(broker.port));
  terminal.say(`Stopping (${await asked})…`);
  await broker.stop();
} catch (error) {
  if (!(error instanceof OperatorError)) throw error;
  terminal.say(error.message);
  terminal.exit(1);
} finally {
  closeLog();
}

function welcome(port: number): string {
  const here = (path: string) => relative(import.meta.dirname, path);
  return `
  The broker is ready at http://127.0.0.1:${port}

  Paste this into another terminal; it signs a chat and streams the answer:

      npm run -s call -- "hello"

  Configuration  ${here(file)}
  Log            ${here(logFile)}
  Stop           Ctrl+C
`;
}

function makeFirstConfig(): void {
  const hasKey = (process.env['OPENAI_API_KEY'] ?? '') !== '';
  const openai = `openai: { kind: openai, api_key: "\${OPENAI_API_KEY}", models: [gpt-4o-mini, gpt-4o] }`;
  const data = join(folder, 'data');
  mkdirSync(data, { recursive: true, mode: 0o700 });
  writeFileSync(
    file,
    `# Made by the first npm start, and yours from here on; docs/configuration.md lists every setting.
public_url: "http://127.0.0.1:\${PORT:-8080}"
public_authorities: ["localhost:\${PORT:-8080}"]
listen: { port: 8080 }
data: ./data
providers:
  ${hasKey ? openai : `# ${openai}`}
  echo: { kind: echo, models: [echo] } # built in: repeats what it is told
products:
  playground: { models: [${hasKey ? 'gpt-4o-mini, gpt-4o, ' : ''}echo] }
clients:
  desktop: { secret: "hex:${randomBytes(32).toString('hex')}", products: [playground] }
`,
    { mode: 0o600 },
  );
  // The secret is a second old: nothing was ever signed with it, so the first start has nothing to wait for.
  writeFileSync(join(data, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT), { mode: 0o600 });
  terminal.say(`Made ${relative(import.meta.dirname, file)} with a secret of its own.`);
}

import { randomBytes } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { EMPTY_SNAPSHOT, SNAPSHOT } from './broker/auth/replay-handover.ts';
import { OPERATOR_CHAIN } from './broker/audit/audit-log.ts';
import { openBroker, type Broker } from './broker/broker.ts';
import { invite } from './broker/control/invites.ts';
import { openRecords } from './broker/control/records.ts';
import { createTerminal } from './broker/main.ts';
import { openLog } from './broker/log/logger.ts';
import { OperatorError } from './broker/log/operator-error.ts';
import { findKeys } from './broker/store/devices.ts';
import { openStore } from './broker/store/open-store.ts';
import type { DaemonConfig } from './daemon/config.ts';
import { askDaemon, controlPathOf } from './daemon/control-socket.ts';
import { openDaemon, type Daemon } from './daemon/daemon.ts';
import { IdentityError } from './daemon/identity-error.ts';
import type { OpenIdentity } from './daemon/identity.ts';
import { openLog as openDaemonLog } from './daemon/log.ts';
import { createTerminal as createDesktop } from './daemon/main.ts';
import { beginSelf } from './daemon/self.ts';
import { TellableError } from './daemon/tellable-error.ts';

// What `npm start` runs: the product on this machine, ready to be tried, with everything it needs made on the first start.

const folder = join(import.meta.dirname, '.sallyport');
const file = join(folder, 'sallyport.yaml');
const terminal = createTerminal();

if (!existsSync(file)) makeFirstConfig();
const config = terminal.readConfig(file);
if (config === undefined) process.exit(1);
const logFile = join(folder, 'broker.log');
const { log, closeLog } = openLog({ level: config.log.level, file: logFile });
const desktop = createDesktop();
const daemonLogFile = join(folder, 'daemon.log');
const daemonLog = openDaemonLog((line) => appendFileSync(daemonLogFile, line, { mode: 0o600 }), terminal.now);
let broker: Broker | undefined;
let daemon: Daemon | undefined;
try {
  broker = await openBroker({ config, log, now: terminal.now, elapsedMs: () => performance.now() });
  const asked = terminal.untilAskedToStop();
  const waitMs = broker.fencedForMs();
  if (waitMs > 0) {
    terminal.say(
      `The last run did not stop cleanly; waiting ${Math.ceil(waitMs / 1000)} s, until no signature from then can be used again.`,
    );
  }
  const first = await Promise.race([asked, setTimeout(waitMs, 'ready', { ref: false })]);
  if (first === 'ready') {
    const origin = `http://127.0.0.1:${broker.port}`;
    const daemonConfig = readDaemonConfig();
    await enrolHere(origin, daemonConfig);
    daemon = await openDaemon({ config: daemonConfig, world: desktop.world, log: daemonLog, pid: process.pid });
    daemonLog.info({ port: daemon.port }, 'listening');
    terminal.say(welcome(broker.port, daemon.port, await newToken(daemonConfig)));
  }
  terminal.say(`Stopping (${await asked})…`);
} catch (error) {
  if (!(error instanceof OperatorError || error instanceof TellableError)) throw error;
  terminal.say(error.message);
  terminal.exit(1);
} finally {
  await daemon?.stop();
  await broker?.stop();
  closeLog();
}

// A desktop of its own, in the folder of this trial: what is enrolled on this machine for good stays as it is.
function readDaemonConfig(): DaemonConfig {
  const home = join(folder, 'desktop');
  return { ...desktop.readConfig(), home, keychain: 'file', insecureKeyFile: true };
}

async function enrolHere(origin: string, daemonConfig: DaemonConfig): Promise<void> {
  const { identity } = await beginSelf(daemonConfig, desktop.world);
  // The port is another one this time, or the database is: then the device of before is nobody here.
  if (identity.state !== 'none' && identity.brokerUrl === origin && (await isKnown(identity))) return;
  if (identity.state !== 'none') await identity.forget();
  const database = await openStore(config!, terminal);
  try {
    const records = await openRecords({ config: config!, database, chain: OPERATOR_CHAIN, now: terminal.now });
    // One product, so that no app has to name it.
    const products = config!.products.slice(0, 1).map(({ name }) => name);
    const { code } = await invite(records, { products, validMs: 60_000 }, { actor: 'npm start' });
    await identity.enrol({ url: origin, code });
  } finally {
    await database.close();
  }
}

async function isKnown(identity: OpenIdentity): Promise<boolean> {
  try {
    await identity.resume();
  } catch (error) {
    if (error instanceof IdentityError) return false;
    throw error;
  }
  const database = await openStore(config!, terminal);
  try {
    const [found] = await findKeys(database.read, [identity.keyid ?? '']);
    return found !== undefined && found.device.revoked_at === null && found.key.state !== 'gone';
  } finally {
    await database.close();
  }
}

// Tokens are shown once, so each start has its own.
async function newToken({ home }: DaemonConfig): Promise<string> {
  const path = controlPathOf(home, process.platform);
  await askDaemon(path, 'apps-remove', { name: 'playground' });
  const { token } = (await askDaemon(path, 'apps-add', { name: 'playground' })) as { token: string };
  return token;
}

function welcome(brokerPort: number, port: number, token: string): string {
  const here = (path: string) => relative(import.meta.dirname, path);
  const model = config!.products[0]?.models.find((name) => !name.includes('*')) ?? 'echo';
  const base = `http://localhost:${port}/v1`;
  return `
  Both doors are open. Apps on this machine talk to the daemon, which signs for them:

      ${base}            the address of an OpenAI-compatible API
      ${token}

  Paste one of these into another terminal.

  curl:

      curl -N ${base}/chat/completions -H 'authorization: Bearer ${token}' -H 'content-type: application/json' -d '{"model":"${model}","stream":true,"messages":[{"role":"user","content":"hello"}]}'

  OpenAI's client for Node, or for Python, or whatever reads these two variables:

      export OPENAI_BASE_URL=${base} OPENAI_API_KEY=${token}

      node --input-type=module -e "import OpenAI from 'openai'; const { choices } = await new OpenAI().chat.completions.create({ model: '${model}', messages: [{ role: 'user', content: 'hello' }] }); console.log(choices[0].message.content)"

      python3 -c "from openai import OpenAI; print(OpenAI().chat.completions.create(model='${model}', messages=[{'role': 'user', 'content': 'hello'}]).choices[0].message.content)"

  Broker         http://127.0.0.1:${brokerPort}
  Configuration  ${here(file)}
  Logs           ${here(logFile)}, ${here(daemonLogFile)}
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

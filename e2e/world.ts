import { createSecretKey } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request, type Agent, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { EMPTY_SNAPSHOT, SNAPSHOT } from '../broker/auth/replay-handover.ts';
import { openBroker } from '../broker/broker.ts';
import { OPERATOR_CHAIN } from '../broker/audit/audit-log.ts';
import { readConfig } from '../broker/config/config.ts';
import { openRecords, type Records } from '../broker/control/records.ts';
import { openLog } from '../broker/log/logger.ts';
import { openStore } from '../broker/store/open-store.ts';
import { postgresServer } from '../broker/store/postgres.test-support.ts';
import { newNonce, signRequest, type Moment } from '@sallyport/protocol/profile.ts';
import type { SigningKey } from '@sallyport/protocol/keys.ts';
import { spawnBroker } from './broker-process.ts';
import { openFaultProxy } from './fault-proxy.ts';

/** The secrets of the world's clients, by name. */
export const SECRETS = {
  desktop: Buffer.from('d'.repeat(32)),
  laptop: Buffer.from('l'.repeat(32)),
} as const;

/** The key that must never be seen anywhere but at the vendor's door. */
export const VENDOR_KEY = 'sk-vendor-planted-canary-0123456789';

type Settings = {
  /** Lines of sallyport.yaml that replace the usual products and clients. */
  policy?: string;
  limits?: string;
  /** More lines of sallyport.yaml. */
  more?: string;
  /** The vendor's time-outs, in seconds. */
  timeouts?: string;
  /** A proxy between the broker and the vendor, in which faults can be planned. */
  withFaults?: boolean;
  /** The broker as a process of its own. */
  apart?: boolean;
  now?: () => number;
  /** The folder of an earlier world; without one, a new folder that nothing was ever signed for. */
  folder?: string;
  vendor?: Vendor;
  /** Which database, or the URL of one; without it, the one that TEST_DATABASE names, or SQLite. */
  database?: 'sqlite' | 'postgres' | `postgresql:${string}`;
  /** Whether it brings the database up to date by itself. */
  migrates?: boolean;
};

/** Answers in place of a paid vendor. */
export type Vendor = (request: IncomingMessage, body: Buffer, response: ServerResponse) => void;

/** What a request through the broker came back with. */
export type Answer = { status: number; headers: IncomingMessage['headers']; text: string; error: ErrorBody };
type ErrorBody = { message: string; type: string; param: string | null; code: string };

/** What can be asked of the broker by hand; whatever is left out is what a well-behaved client would send. */
export type Ask = {
  method?: string;
  authority?: string;
  path?: string;
  query?: string;
  body?: string | Buffer | object;
  headers?: Record<string, string>;
  client?: keyof typeof SECRETS;
  key?: SigningKey;
  moment?: Partial<Moment>;
  signed?: boolean;
};

const USUAL_POLICY = `
products:
  product-a: { models: [gpt-4o, "gpt-4o-*", echo], max_tokens: 100, temperature: [0, 1], rate: { burst: 100000, per_second: 100000, per_day: 1000000 } }
  product-b: { models: [echo], rate: { burst: 100000, per_second: 100000, per_day: 1000000 } }
  limited: { models: [echo], rate: { burst: 2, per_second: 0.5, per_day: 5 } }
clients:
  desktop: { secret: "${SECRETS.desktop}", products: [product-a] }
  laptop: { secret: "${SECRETS.laptop}", products: [product-a, product-b, limited] }
`;

// Tests flood from one address; one test of its own holds the bucket.
const FLOOD = '{ burst: 1000000, per_second: 1000000 }';
const USUAL_LIMITS = `limits: { body_bytes: 65536, address: ${FLOOD}, enrolment: ${FLOOD} }`;

const ENCRYPTION_KEY = Buffer.alloc(32, 'k').toString('base64');

export type World = Awaited<ReturnType<typeof openWorld>>;

/** A broker on a real port, a pretend vendor behind it, and hands to reach it with. */
export async function openWorld(settings: Settings = {}) {
  const folder = settings.folder ?? mkdtempSync(join(tmpdir(), 'sallyport-'));
  const data = join(folder, 'data');
  if (settings.folder === undefined) {
    mkdirSync(data);
    writeFileSync(join(data, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT));
  }
  const vendor = await openVendor(settings.vendor ?? answerOk);
  const faults = await openFaultProxy(vendor.port);
  const databaseUrl = await findDatabase(settings.database);
  const port = await freePort();
  const authority = `127.0.0.1:${port}`;
  const yaml = `
public_url: http://${authority}
public_authorities: [broker.example.com]
listen: { port: ${port} }
data: ${JSON.stringify(data)}
${settings.limits ?? USUAL_LIMITS}
${settings.more ?? ''}
${databaseUrl === undefined ? '' : `database: { url: "${databaseUrl}", migrate: ${settings.migrates ?? true} }\nencryption: { keys: ["${ENCRYPTION_KEY}"] }`}
providers:
  vendor: { kind: openai, api_key: ${VENDOR_KEY}, base_url: "http://127.0.0.1:${settings.withFaults === true ? faults.port : vendor.port}/v1", allow_private: true, models: [gpt-4o, gpt-4o-mini], timeouts: { ${settings.timeouts ?? 'headers_seconds: 5, idle_seconds: 5'} } }
  echo: { kind: echo, models: [echo] }
${settings.policy ?? USUAL_POLICY}`;
  const lines: string[] = [];
  const now = settings.now ?? Date.now;
  let apart = settings.apart === true ? await spawnBroker({ yaml, folder, lines }) : undefined;
  const within = apart === undefined ? await openWithin({ yaml, folder, lines, now }) : undefined;

  const reach = { port, authority, now };
  const ask = (asked: Ask = {}) => deliver(port, prepare(reach, asked));
  return {
    folder,
    port,
    authority,
    base: `http://${authority}`,
    vendor,
    faults,
    /** The broker's own process, where it has one. */
    get apart() {
      return apart;
    },
    /** Kills the broker's own process, and starts another: one that need not wait for signatures from before. */
    async restart({ crash }: { crash?: string } = {}) {
      apart!.kill('SIGKILL');
      await apart!.exited;
      writeFileSync(join(data, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT));
      apart = await spawnBroker({ yaml, folder, lines, crash });
    },
    databaseUrl,
    /** The records, opened beside the broker as a command opens them. */
    withRecords: <Value>(act: (records: Records) => Promise<Value>) => withRecords({ yaml, folder, now }, act),
    /** Every line of the log so far. */
    log: lines,
    ask,
    prepare: (asked: Ask = {}) => prepare(reach, asked),
    deliver: (prepared: Prepared, agent?: Agent) => deliver(port, prepared, agent),
    chat: (body: object = {}, rest: Ask = {}) => ask({ ...rest, body: { ...CHAT, ...body } }),
    /** Sends these very bytes on a socket of their own and gives back all that came. */
    raw: (bytes: string | Buffer) => sendRaw(port, bytes),
    /** Ends the world, and what it leaves behind: a folder that the next one may begin with, or nothing. */
    async close({ keep = false } = {}) {
      apart?.kill('SIGKILL');
      await apart?.exited;
      await within?.stop();
      await faults.close();
      await vendor.close();
      if (!keep) rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function findDatabase(wanted = process.env['TEST_DATABASE']): Promise<string | undefined> {
  if (wanted === undefined || wanted === 'sqlite') return undefined;
  if (wanted !== 'postgres') return wanted;
  const server = await postgresServer();
  if (server === undefined) throw new Error('this machine has no Postgres');
  return server.freshUrl();
}

async function withRecords<Value>(
  { yaml, folder, now }: { yaml: string; folder: string; now: () => number },
  act: (records: Records) => Promise<Value>,
): Promise<Value> {
  const { config } = readConfig({ env: {}, cwd: folder, readFile: () => yaml });
  const database = await openStore(config!, { now, say: () => {} });
  try {
    return await act(await openRecords({ config: config!, database, chain: OPERATOR_CHAIN, now }));
  } finally {
    await database.close();
  }
}

async function openWithin({
  yaml,
  folder,
  lines,
  now,
}: {
  yaml: string;
  folder: string;
  lines: string[];
  now: () => number;
}) {
  const { config, mistakes } = readConfig({ env: {}, cwd: folder, readFile: () => yaml });
  if (config === undefined) throw new Error(JSON.stringify(mistakes, null, 2));
  const { log, closeLog } = openLog({ level: 'debug', destination: toLines(lines) });
  const broker = await openBroker({ config, log, now, elapsedMs: () => performance.now() });
  return {
    async stop() {
      await broker.stop({ finishMs: 100, endMs: 100 });
      closeLog();
    },
  };
}

/** A chat that passes every check. */
export const CHAT = { model: 'gpt-4o', messages: [{ role: 'user', content: 'hello' }] };

/** The signing key of one of the world's clients. */
export function keyOf(client: keyof typeof SECRETS): SigningKey {
  return { keyid: client, algorithm: 'hmac-sha256', key: createSecretKey(SECRETS[client]) };
}

/** A prepared request as the bytes of a socket that is held by hand. */
export function bytesOf({ method, target, headers, content = Buffer.alloc(0) }: Prepared): Buffer {
  const lines = Object.entries({ ...headers, 'content-length': content.length }).map((field) => field.join(': '));
  return Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`), content]);
}

type Reach = { port: number; authority: string; now: () => number };

/** A request that is signed and ready; sent twice, it is a replay. */
export type Prepared = { method: string; target: string; headers: Record<string, string>; content: Buffer | undefined };

function prepare({ authority: usual, now }: Reach, asked: Ask): Prepared {
  const { path = '/v1/chat/completions', query = '', signed = true, authority = usual } = asked;
  const content = asked.body === undefined ? undefined : toBytes(asked.body);
  const method = asked.method ?? (content === undefined ? 'GET' : 'POST');
  const fields: Record<string, string> = {
    ...(content === undefined ? {} : { 'content-type': 'application/json' }),
    ...asked.headers,
  };
  const moment = { created: Math.floor(now() / 1000), nonce: newNonce(), ...asked.moment };
  const unsigned = { method, authority, path, query, fields, ...(content === undefined ? {} : { body: content }) };
  const signature = signed ? signRequest(unsigned, asked.key ?? keyOf(asked.client ?? 'desktop'), moment) : {};
  return { method, target: path + query, headers: { host: authority, ...fields, ...signature }, content };
}

function deliver(port: number, { method, target, headers, content }: Prepared, agent?: Agent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    // Not fetch: it drops a Host we set, and mends what a hostile caller would send as it is.
    const outgoing = request(
      { port, host: '127.0.0.1', method, path: target, headers, ...(agent === undefined ? {} : { agent }) },
      (answer) => {
        answer.toArray().then((chunks) => {
          const text = Buffer.concat(chunks).toString();
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text, error: readErrorBody(text) });
        }, reject);
      },
    );
    outgoing.on('error', reject);
    outgoing.end(content);
  });
}

function toBytes(body: string | Buffer | object): Buffer {
  if (Buffer.isBuffer(body)) return body;
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

function readErrorBody(text: string): ErrorBody {
  return text.startsWith('{"error"') ? (JSON.parse(text) as { error: ErrorBody }).error : ({} as ErrorBody);
}

function sendRaw(port: number, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
    socket.setTimeout(1000, () => socket.destroy());
  });
}

async function openVendor(first: Vendor) {
  const requests: { path: string; headers: IncomingMessage['headers']; body: string }[] = [];
  const script = { answer: first };
  const server = createServer(async (incoming, response) => {
    // Who hangs up while still asking has not asked.
    const body = Buffer.concat(await incoming.toArray().catch(() => []));
    if (!incoming.complete) return;
    requests.push({ path: incoming.url ?? '', headers: incoming.headers, body: body.toString() });
    script.answer(incoming, body, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    /** What has reached the vendor, in the order of arrival. */
    requests,
    /** Answers like this from now on. */
    answerWith: (next: Vendor) => void (script.answer = next),
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The vendor's usual answer: a whole one, a stream when a stream was asked for, or vectors. */
export const answerOk: Vendor = (incoming, body, response) => {
  const asked = JSON.parse(body.toString()) as { stream?: boolean; model: string };
  if (incoming.url?.endsWith('/embeddings') === true) {
    const data = [{ object: 'embedding', index: 0, embedding: [0.5, -0.5] }];
    answerJson(response, { object: 'list', data, model: asked.model, usage: { prompt_tokens: 1, total_tokens: 1 } });
  } else if (asked.stream === true) {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const delta of [{ role: 'assistant', content: 'Good' }, { content: ' day' }, {}]) {
      const choices = [{ index: 0, delta, finish_reason: 'content' in delta ? null : 'stop' }];
      response.write(`data: ${JSON.stringify({ id: 'c1', object: 'chat.completion.chunk', created: 1, choices })}\n\n`);
    }
    response.end('data: [DONE]\n\n');
  } else {
    const choices = [{ index: 0, message: { role: 'assistant', content: 'Good day' }, finish_reason: 'stop' }];
    answerJson(response, { id: 'c1', object: 'chat.completion', created: 1, model: asked.model, choices });
  }
};

function answerJson(response: ServerResponse, value: object): void {
  response.writeHead(200, { 'content-type': 'application/json', 'set-cookie': 'vendor=1', server: 'vendor' });
  response.end(JSON.stringify(value));
}

function toLines(lines: string[]): Writable {
  return new Writable({
    write(chunk: Buffer, _, done) {
      lines.push(chunk.toString());
      done();
    },
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

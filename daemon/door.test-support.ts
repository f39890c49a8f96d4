import { createSecretKey, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { keyidOf } from '@sallyport/protocol/enrolment.ts';
import { openApps } from './apps.ts';
import { openDoor, type DoorSettings } from './door.ts';
import type { Identity } from './identity.ts';
import { openUplink } from './uplink.ts';

/** What reached the pretend broker. */
export type Arrived = {
  method: string;
  url: string;
  rawHeaders: string[];
  headers: NodeJS.Dict<string | string[]>;
  body: Buffer;
};
export type Answering = (request: IncomingMessage, response: ServerResponse, body: Buffer) => void;

export const CHAT = JSON.stringify({ model: 'echo', messages: [{ role: 'user', content: 'hello' }] });

const SECRET = randomBytes(32);
export const SIGNING_KEY = { keyid: keyidOf(SECRET), algorithm: 'hmac-sha256', key: createSecretKey(SECRET) } as const;

export type DoorWorld = Awaited<ReturnType<typeof openDoorWorld>>;

/** A door on a free port, with the real uplink towards a broker that says what it is told to. */
export async function openDoorWorld(settings: Partial<DoorSettings> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-door-'));
  const spoolFolder = join(folder, 'spool');
  const arrived: Arrived[] = [];
  const logged: string[] = [];
  const world = {
    answering: echo as Answering,
    state: 'active' as Identity['state'],
    open: 0,
    nowMs: 1_800_000_000_000,
  };

  const broker = createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    world.open++;
    response.on('close', () => world.open--);
    response.on('error', () => response.destroy());
    request.on('error', () => response.destroy());
    request.on('data', (piece: Buffer) => pieces.push(piece));
    await once(request, 'end');
    const body = Buffer.concat(pieces);
    const { method = '', url = '', rawHeaders, headers } = request;
    arrived.push({ method, url, rawHeaders, headers, body });
    world.answering(request, response, body);
  });
  broker.listen(0, '127.0.0.1');
  await once(broker, 'listening');
  const brokerPort = (broker.address() as AddressInfo).port;
  const uplink = openUplink({
    brokerUrl: `http://127.0.0.1:${brokerPort}`,
    signingKey: async () => SIGNING_KEY,
    installId: 'inst_0001',
    bootId: 'boot_0001',
    now: Date.now,
    elapsedMs: () => performance.now(),
  });

  const apps = openApps({ file: join(folder, 'apps.json'), now: () => world.nowMs, random: randomBytes });
  const token = apps.add('editor');
  const log = (facts: object, says: string) => void logged.push(`${says} ${JSON.stringify(facts)}`);
  const door = await openDoor({
    port: 0,
    apps,
    origins: () => new Set(['https://listed.example']),
    identity: () => ({ state: world.state }),
    uplink: () => uplink,
    spoolFolder,
    random: randomBytes,
    log: { warn: log, error: log },
    ...settings,
  }).catch((error: unknown) => {
    broker.close();
    rmSync(folder, { recursive: true, force: true });
    throw error;
  });
  const host = `127.0.0.1:${door.port}`;

  return Object.assign(world, {
    door,
    host,
    port: door.port,
    brokerPort,
    broker,
    apps,
    token,
    arrived,
    logged,
    folder,
    spoolFolder,
    ask: (asked: Asked = {}) => ask(door.port, { headers: ['Authorization', `Bearer ${token}`], ...asked }),
    async close() {
      await door.close();
      uplink.close();
      broker.close();
      broker.closeAllConnections();
      rmSync(folder, { recursive: true, force: true });
    },
  });
}

/** Answers a chat. */
export function echo(_: IncomingMessage, response: ServerResponse): void {
  const body = '{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hello"}}]}';
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body);
}

export type Asked = {
  method?: string;
  path?: string;
  /** Name, value, and so on; without a Host the right one is added. */
  headers?: string[];
  /** Sent as JSON, unless the headers name a type. */
  body?: string | Buffer;
};
export type Told = { status: number; headers: NodeJS.Dict<string | string[]>; text: string; isWhole: boolean };

/** Asks as a program does, with http.request: fetch would drop a Host that is set. */
export async function ask(port: number, asked: Asked): Promise<Told> {
  const { method = asked.body === undefined ? 'GET' : 'POST', path = '/v1/chat/completions', body } = asked;
  const headers = [...(asked.headers ?? [])];
  const has = (name: string) => headers.some((value, index) => index % 2 === 0 && value.toLowerCase() === name);
  if (!has('host')) headers.push('Host', `127.0.0.1:${port}`);
  if (body !== undefined && !has('content-type')) headers.push('Content-Type', 'application/json');
  if (body !== undefined && !has('transfer-encoding')) headers.push('Content-Length', String(Buffer.byteLength(body)));
  const request = httpRequest({ port, host: '127.0.0.1', method, path, headers, agent: false, setHost: false });
  request.on('error', () => request.destroy());
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const pieces: Buffer[] = [];
  response.on('data', (piece: Buffer) => pieces.push(piece));
  response.on('error', () => {});
  await once(response, 'close').catch(() => undefined);
  return {
    status: response.statusCode!,
    headers: response.headers,
    text: Buffer.concat(pieces).toString(),
    isWhole: response.complete,
  };
}

/** Sends these bytes, and gives back all that came until the door closed the connection or was silent. */
export function converse(
  port: number,
  bytes: string | Buffer,
  { host = '127.0.0.1', silenceMs = 2_000 } = {},
): Promise<string> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    const socket = connect({ port, host }, () => socket.write(bytes));
    socket.setTimeout(silenceMs, () => socket.destroy());
    socket.on('data', (piece) => pieces.push(piece));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(Buffer.concat(pieces).toString('latin1')));
  });
}

/** Waits until this is so, or throws. */
export async function until(isSo: () => boolean, withinMs = 2_000): Promise<number> {
  const begun = performance.now();
  while (!isSo()) {
    if (performance.now() - begun > withinMs) throw new Error(`not so within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return performance.now() - begun;
}

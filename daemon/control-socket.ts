import { createHash } from 'node:crypto';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makePrivateFolder } from './files.ts';
import { TellableError } from './tellable-error.ts';

// The command line's way into the running daemon: a socket in a folder that only its owner may enter. No route of the door
// changes a setting, so no web page and no other user can; whoever can open this socket could read the files beside it.

/** What can be asked, by name; what is thrown is said to whoever asked. */
export type Verbs = Readonly<Record<string, (asked: Record<string, unknown>) => Promise<unknown>>>;

/** Another daemon has this folder already. */
export class AlreadyRunning extends TellableError {
  override name = 'AlreadyRunning';
}

/** What the daemon said to a verb that it could not do. */
export class VerbRefused extends TellableError {
  override name = 'VerbRefused';
  override readonly exitCode: number;

  constructor(sentence: string, exitCode: number) {
    super(sentence);
    this.exitCode = exitCode;
  }
}

// A socket's path has room for a hundred bytes, fewer than many a home folder has.
const LONGEST_PATH = 100;
const MOST_BYTES = 64 * 1024;

/** Where the socket of an installation is. */
export function controlPathOf(home: string, platform: NodeJS.Platform): string {
  const name = createHash('sha256').update(home).digest('hex').slice(0, 16);
  if (platform === 'win32') return `\\\\.\\pipe\\sallyport-${name}`;
  const path = join(home, 'control.sock');
  if (Buffer.byteLength(path) <= LONGEST_PATH) return path;
  const folder = join(tmpdir(), `sallyport-${name}`);
  makePrivateFolder(folder);
  return join(folder, 'control.sock');
}

/** Answers the command line; throws AlreadyRunning where another daemon does. */
export async function openControlSocket(path: string, verbs: Verbs): Promise<{ close: () => Promise<void> }> {
  const server = createServer(async (incoming, response) => {
    const { status, value } = await answer(incoming, verbs);
    response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
    response.end(JSON.stringify(value));
  });
  const listen = () =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, () => {
        server.off('error', reject);
        resolve();
      });
    });
  try {
    await listen();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    if (await isHeard(path)) throw new AlreadyRunning('Another daemon runs for this folder already; stop it first.');
    // What a daemon left behind that was killed.
    rmSync(path, { force: true });
    await listen();
  }
  if (!path.startsWith('\\\\')) chmodSync(path, 0o600);
  return {
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(incoming: IncomingMessage, verbs: Verbs): Promise<{ status: number; value: unknown }> {
  const verb = (incoming.url ?? '').slice(1);
  try {
    const asked = await readJson(incoming);
    if (!Object.hasOwn(verbs, verb)) {
      return { status: 404, value: { says: 'The running daemon is of another version; restart it.', exitCode: 1 } };
    }
    return { status: 200, value: (await verbs[verb]!(asked)) ?? null };
  } catch (error) {
    const { message, exitCode = 1 } = error as Error & { exitCode?: number };
    return { status: 400, value: { says: message, exitCode } };
  }
}

async function readJson(incoming: IncomingMessage): Promise<Record<string, unknown>> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > MOST_BYTES) throw new RangeError('That is more than can be asked here.');
    pieces.push(piece);
  }
  return length === 0 ? {} : (JSON.parse(Buffer.concat(pieces).toString()) as Record<string, unknown>);
}

/** Asks the running daemon; undefined where none runs. */
export function askDaemon(path: string, verb: string, asked: object = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath: path, path: `/${verb}`, method: 'POST', agent: false }, (incoming) => {
      incoming.toArray().then((pieces) => {
        const value = JSON.parse(Buffer.concat(pieces).toString()) as { says: string; exitCode: number };
        if (incoming.statusCode === 200) resolve(value);
        else reject(new VerbRefused(value.says, value.exitCode));
      }, reject);
    });
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined);
      else reject(error);
    });
    outgoing.end(JSON.stringify(asked));
  });
}

function isHeard(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

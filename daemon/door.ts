import { once } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { App, Apps } from './apps.ts';
import { dialectOf, readDataPath, type DataPath } from './data-paths.ts';
import { DoorError } from './door-errors.ts';
import { answerError, asDoorError } from './error-answer.ts';
import { forward, type Way } from './forward.ts';
import { makePrivateFolder } from './files.ts';
import { openGuard, valuesOf } from './guard.ts';
import { openListener } from './listener.ts';
import { findPortHolder } from './port-holder.ts';
import { emptySpool } from './spool.ts';
import { TellableError } from './tellable-error.ts';

// READ FIRST: the listeners, the guard, the doors. What is not here on purpose: any route that changes a setting (that is the
// control socket's), and Google's metadata (that has ports of its own, since it cannot ask for a token).

type Log = { warn(facts: object, says: string): void; error(facts: object, says: string): void };

export type DoorSettings = Pick<Way, 'identity' | 'uplink' | 'spoolFolder' | 'random'> &
  Partial<Pick<Way, 'bodyBytes' | 'uploadBytes' | 'bodyMs' | 'answerMs' | 'silenceMs'>> & {
    port: number;
    /** How many connections may be open at once, over both addresses. */
    connections?: number;
    apps: Pick<Apps, 'whoseToken'>;
    /** The origins of web pages that the person has listed. */
    origins: () => ReadonlySet<string>;
    log: Log;
    /** Says who holds a port that is taken. */
    findHolder?: (port: number) => string | undefined;
  };

export type Door = {
  port: number;
  /** Where it listens, as URLs. */
  addresses: readonly string[];
  /** Hears nobody new, ends what is under way with an error, and closes. */
  close: () => Promise<void>;
};

/** The door cannot open where it should; main prints the sentence and exits with the code (EX_CONFIG: do not restart me). */
export class DoorTaken extends TellableError {
  override name = 'DoorTaken';
  override readonly exitCode = 78;
}

/** What the stages find out about one request. */
type Visit = {
  request: IncomingMessage;
  response: ServerResponse;
  method: string;
  target: string;
  /** The listed page that asks. */
  origin?: string;
  answerHeaders: Readonly<Record<string, string>>;
};

type DoorWay = readonly [
  isFor: (visit: Visit) => boolean,
  to: (visit: Visit) => DataPath | undefined,
  whose: (visit: Visit) => App | undefined,
  happen: (visit: Visit, to: DataPath | undefined, app: App | undefined) => void | Promise<void>,
];

const LIMITS = {
  connections: 64,
  bodyBytes: 25 * 1024 * 1024,
  uploadBytes: 25 * 1024 * 1024,
  bodyMs: 30_000,
  // A model may think for ten minutes before its first word; the broker ends what lasts longer.
  answerMs: 660_000,
  // The broker says something in a stream every 15 s, if only that there is nothing to say.
  silenceMs: 90_000,
} as const;

const RUNNING = 'The Sallyport daemon runs on this computer.\n';

/** Opens the door on both loopback addresses, or throws in words. */
export async function openDoor(settings: DoorSettings): Promise<Door> {
  const { log, apps, origins } = settings;
  const stopping = new AbortController();
  const way: Way = { ...LIMITS, ...settings, stopping: stopping.signal };
  let guard: ReturnType<typeof openGuard> | undefined;

  // A request from a program on this machine, or from a page that the person has listed.
  const hear = (request: IncomingMessage) => {
    // No port is known yet, so no Host can be right.
    if (guard === undefined) throw new DoorError('host_refused');
    return guard(request);
  };

  const app = ({ request }: Visit) => apps.whoseToken(request.rawHeaders);

  // prettier-ignore
  const doors: readonly DoorWay[] = [
    //for what         where to       which app   what happens
    [ isPreflight,     no,            no,         permit       ],
    [ isGreeting,      no,            no,         greet        ],
    [ isAnything,      toDataPath,    app,        pass(way)    ],
  ];

  const receive = async (visit: Visit): Promise<void> => {
    const { origin } = hear(visit.request);
    if (origin !== undefined) {
      visit.origin = origin;
      visit.answerHeaders = { 'access-control-allow-origin': origin, vary: 'Origin' };
    }
    checkConnection(visit.request);
    const [, to, whose, happen] = doors.find(([isFor]) => isFor(visit))!;
    await happen(visit, to(visit), whose(visit));
  };

  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const { method = '', url: target = '' } = request;
    const arrived: Visit = { request, response, method, target, answerHeaders: {} };
    // An answer has no other listener, and an error that nobody hears ends the process.
    response.on('error', () => response.destroy());
    receive(arrived).catch((thrown: unknown) => {
      const error = asDoorError(thrown);
      if (error.status >= 500) {
        log[error.code === 'internal' ? 'error' : 'warn']({ code: error.code, cause: error.cause }, error.message);
      }
      if (response.destroyed) return;
      answerError({ target, response, isUnread: !request.complete, headers: arrived.answerHeaders }, error);
    });
  };

  const refusal = (request: IncomingMessage): DoorError | undefined => {
    try {
      hear(request);
      return undefined;
    } catch (thrown) {
      return asDoorError(thrown);
    }
  };

  makePrivateFolder(settings.spoolFolder);
  await emptySpool(settings.spoolFolder);
  const admit = limitConnections(settings.connections ?? LIMITS.connections, log);
  const open = () => openListener({ admit, handle, refusal });
  const { servers, port } = await listenOnBoth(open, settings);
  guard = openGuard({ port, origins });

  return {
    port,
    addresses: servers.map(({ host }) => `http://${host}:${port}`),
    async close() {
      const closed = servers.map(({ server }) => {
        const gone = once(server, 'close');
        server.close();
        return gone;
      });
      stopping.abort(new DoorError('daemon_stopping'));
      // What was told of the end has a moment to leave; whoever does not read is not waited for.
      const timer = setTimeout(() => servers.forEach(({ server }) => server.closeAllConnections()), 500);
      await Promise.all(closed);
      clearTimeout(timer);
    },
  };
}

// The broker's streams are SSE; whoever wants to switch protocols would wait for a word that never comes.
function checkConnection(request: IncomingMessage): void {
  if (request.headers.upgrade !== undefined) throw new DoorError('upgrade_refused');
  const { expect } = request.headers;
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') throw new DoorError('expectation_refused');
}

// Asked by a browser in front of a listed page's request; for everybody else there is no door that takes OPTIONS.
const isPreflight = ({ method, origin }: Visit) => method === 'OPTIONS' && origin !== undefined;
const isGreeting = ({ method, target }: Visit) => method === 'GET' && target === '/';
const isAnything = () => true;

const no = () => undefined;
const toDataPath = ({ method, target }: Visit) => readDataPath(method, target);

/** An app's request to the broker. */
function pass(way: Way): DoorWay[3] {
  return (visit, to, app) => {
    // The table has both in this row; without either, nothing is forwarded.
    if (to === undefined || app === undefined) throw new DoorError('token_missing');
    return forward({ ...visit, to, app, dialect: dialectOf(visit.target) }, way);
  };
}

/** For whoever wonders what listens here. It says nothing that tells this machine from another. */
function greet({ response, answerHeaders }: Visit): void {
  response.writeHead(200, {
    ...answerHeaders,
    'content-type': 'text/plain; charset=utf-8',
    'content-length': RUNNING.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(RUNNING);
}

const FIELD_NAMES = /^[a-z0-9-]+(?:\s*,\s*[a-z0-9-]+)*$/i;

/** Allows a listed page what a program may do; no cookies, and no leave for pages of the public internet as such. */
function permit({ request, response, answerHeaders }: Visit): void {
  const asked = valuesOf(request.rawHeaders, 'access-control-request-headers').join(', ');
  response.writeHead(204, {
    ...answerHeaders,
    'access-control-allow-methods': 'GET, POST, DELETE',
    // Client libraries send a dozen of their own, and what may pass is decided when it comes.
    ...(FIELD_NAMES.test(asked) && { 'access-control-allow-headers': asked }),
    'access-control-max-age': '600',
  });
  response.end();
}

function limitConnections(most: number, log: Log): (socket: Socket) => boolean {
  let open = 0;
  let isTold = false;
  return (socket) => {
    if (open >= most) {
      // Once for each time that it fills up: a program that loops must not fill the log as well.
      if (!isTold) log.warn({ connections: most }, 'more connections than the door takes; new ones are closed at once');
      isTold = true;
      return false;
    }
    open++;
    socket.once('close', () => {
      if (--open < most / 2) isTold = false;
    });
    return true;
  };
}

type Listening = { server: Server; host: string };

// A program that asks for `localhost` may try ::1 first: left open, it would be anybody's who comes before us.
async function listenOnBoth(
  open: () => Server,
  { port: wanted, log, findHolder = findPortHolder }: DoorSettings,
): Promise<{ servers: Listening[]; port: number }> {
  const servers: Listening[] = [];
  let port = wanted;
  for (const host of ['127.0.0.1', '::1']) {
    const server = open();
    try {
      server.listen({ host, port });
      await once(server, 'listening');
    } catch (thrown) {
      const { code, message } = thrown as NodeJS.ErrnoException;
      if (host === '::1' && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) {
        log.warn({ code }, 'this machine has no IPv6, so the door is open at 127.0.0.1 alone');
        continue;
      }
      await Promise.all(servers.map((before) => new Promise((closed) => before.server.close(closed))));
      // Never another port by itself: whoever sits at ours would be given the prompts that are meant for us.
      throw new DoorTaken(says({ host, port, code, message, holder: findHolder(port) }), { cause: thrown });
    }
    port = (server.address() as AddressInfo).port;
    servers.push({ server, host: host === '::1' ? '[::1]' : host });
  }
  return { servers, port };
}

type Trouble = { host: string; port: number; code: string | undefined; message: string; holder: string | undefined };

function says({ host, port, code, message, holder }: Trouble): string {
  if (code !== 'EADDRINUSE')
    return `The door cannot open at port ${port} of ${host}: ${message}. Choose another port: SALLYPORT_PORT=8788.`;
  const who = holder === undefined ? 'another program' : holder;
  return `Port ${port} of ${host} is held by ${who}. Stop it, or choose another port, SALLYPORT_PORT=8788; none is taken by itself.`;
}

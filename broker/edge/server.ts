import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { ErrorCode } from '@sallyport/protocol/errors.ts';
import type { Logger } from '../log/logger.ts';
import { oneAtATime } from './one-at-a-time.ts';

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

type Settings = {
  /** How many connections may be open at once. */
  connections: number;
  log: Pick<Logger, 'warn'>;
};

/**
 * The HTTP server, with a guard on every event it emits. `connect`, `checkContinue` and `checkExpectation` never reach the
 * `request` event, so a check that stands only there is walked around. Nobody listens to `upgrade`, so that it is a request
 * like any other, which the first stage refuses.
 */
export function openServer(handle: Handle, { connections, log }: Settings): Server {
  const server = createServer({
    // Headers that are not all there by then are not coming. The stage that reads a body has a time of its own for it; this
    // one is for all others. How long an answer may take is not limited here.
    headersTimeout: 10_000,
    requestTimeout: 300_000,
    connectionsCheckingInterval: 2_000,
    // Longer than the idle time-out of the load balancers in front (60 s), or they would reuse a socket we just closed.
    keepAliveTimeout: 65_000,
    // A caller whose network is gone says nothing: unless it is probed, it holds its connection for as long as it is silent.
    keepAlive: true,
    keepAliveInitialDelay: 15_000,
    maxHeaderSize: 16 * 1024,
    insecureHTTPParser: false,
    // The first stage refuses a request without a Host, in our own words.
    requireHostHeader: false,
  });
  server.maxConnections = connections;
  // For those who do not read what was written for them.
  server.timeout = 60_000;
  const { take, refuse, giveUp } = oneAtATime(handle);
  server.on('timeout', giveUp);
  server.on('request', (request, response) => {
    // The first word of HTTP/2. Node destroys the connection of a request that is called so as soon as this returns, and with
    // it the answer to the one before.
    if (request.method === 'PRI') request.method = 'pri';
    take(request, response);
  });
  // The body's reader gives leave to continue, once everything that needs only headers has passed.
  server.on('checkContinue', take);
  server.on('checkExpectation', take);
  server.on('connect', (_, socket) => {
    // Node has taken its own listeners off this socket, and an error that nobody hears ends the process: a caller would only
    // have to reset the connection.
    socket.on('error', () => socket.destroy());
    socket.on('timeout', () => socket.destroy());
    refuse(socket, 'upgrade_unsupported');
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (error.code === 'ECONNRESET') socket.destroy();
    else refuse(socket, clientErrorCode(error));
  });
  warnOfDrops(server, log);
  return server;
}

function clientErrorCode({ code }: NodeJS.ErrnoException): ErrorCode {
  if (code === 'HPE_HEADER_OVERFLOW') return 'headers_too_large';
  return code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'request_timeout' : 'request_malformed';
}

/** Tells how many connections were turned away: at once, and then at most once in ten seconds. */
export function warnOfDrops(server: Server, log: Pick<Logger, 'warn'>, everyMs = 10_000): void {
  let dropped = 0;
  let timer: NodeJS.Timeout | undefined;
  const tell = () => {
    timer = undefined;
    if (dropped === 0) return;
    log.warn({ dropped }, 'more connections than limits.connections allows; the new ones were closed at once');
    dropped = 0;
    timer = setTimeout(tell, everyMs).unref();
  };
  server.on('drop', () => {
    dropped++;
    if (timer === undefined) tell();
  });
}

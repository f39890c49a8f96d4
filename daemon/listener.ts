import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { DoorError, type DoorErrorCode } from './door-errors.ts';
import { writeError } from './error-answer.ts';

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

type Settings = {
  /** Takes one more connection, or says that there are too many. */
  admit: (socket: Socket) => boolean;
  handle: Handle;
  /** The reason why nothing at all is heard from this sender; undefined for a program. */
  refusal: (request: IncomingMessage) => DoorError | undefined;
  /** How long somebody may leave unread what was written for them. */
  unreadMs?: number;
};

/** What one connection is at. */
type Line = { request: IncomingMessage; response: ServerResponse; waiting: number };

// No client sends more before it has read the first answer.
const MOST_WAITING = 20;
const LINGER_MS = 2_000;

/**
 * An HTTP server with a guard on every event it emits: `connect`, `checkContinue` and `checkExpectation` never reach the
 * `request` event, so a check that stands only there is walked around. Nobody listens to `upgrade`, so that it is a request
 * like any other. Nothing listens on a port yet.
 */
export function openListener({ admit, handle, refusal, unreadMs = 60_000 }: Settings): Server {
  const server = createServer({
    headersTimeout: 10_000,
    // The reader of bodies has a time of its own, which is shorter.
    requestTimeout: 120_000,
    connectionsCheckingInterval: 1_000,
    keepAliveTimeout: 65_000,
    maxHeaderSize: 16 * 1024,
    insecureHTTPParser: false,
    // The guard refuses a request without a Host, in our own words.
    requireHostHeader: false,
  });
  const lines = new WeakMap<Duplex, Line>();

  // A connection hears one request at a time: what stands behind an answer that ended the connection may be what a refused
  // request was meant to hide.
  const take: Handle = (request, response) => {
    const { socket } = request;
    if (!socket.writable) return;
    const line = lines.get(socket);
    if (line === undefined) {
      const first = { request, response, waiting: 0 };
      lines.set(socket, first);
      lingerOn(socket, first);
      return handle(request, response);
    }
    const before = line.response;
    line.request = request;
    line.response = response;
    if (before.closed) return handle(request, response);
    if (++line.waiting > MOST_WAITING) return void socket.destroy();
    before.once('close', () => {
      line.waiting--;
      if (socket.writable) handle(request, response);
    });
  };

  server.on('connection', (socket) => {
    if (!admit(socket)) socket.destroy();
  });
  server.on('request', (request, response) => {
    // The first word of HTTP/2. Node destroys the connection of a request that is called so as soon as this returns.
    if (request.method === 'PRI') request.method = 'pri';
    take(request, response);
  });
  server.on('checkContinue', take);
  server.on('checkExpectation', take);
  server.on('connect', (request, socket) => {
    // Node has taken its own listeners off this socket, and an error that nobody hears ends the process.
    socket.on('error', () => socket.destroy());
    answerRaw(socket, refusal(request) ?? new DoorError('upgrade_refused'));
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const line = lines.get(socket);
    // An answer that is under way must not have another written into its middle.
    const isBusy = line !== undefined && !line.response.closed && line.response.headersSent;
    if (error.code === 'ECONNRESET' || isBusy || !socket.writable) socket.destroy();
    else answerRaw(socket, new DoorError(clientErrorCode(error)));
  });
  // For those who do not read what was written for them; an answer may think for as long as it likes.
  server.timeout = unreadMs;
  server.on('timeout', (socket) => {
    const line = lines.get(socket);
    if (line === undefined || line.response.writableEnded) socket.destroy();
  });
  return server;
}

function clientErrorCode({ code }: NodeJS.ErrnoException): DoorErrorCode {
  if (code === 'HPE_HEADER_OVERFLOW') return 'headers_too_large';
  return code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'request_slow' : 'request_malformed';
}

// With this Node hangs up, when an answer was the last one of its connection. A socket that is closed while there is
// something unread in it resets the connection, and the reset overtakes the answer: whose body was refused would not learn why.
function lingerOn(socket: Socket, line: Line): void {
  const hangUp = socket.destroySoon.bind(socket);
  socket.destroySoon = () => {
    if (line.request.complete) return hangUp();
    line.request.resume();
    linger(socket);
  };
}

function linger(socket: Duplex): void {
  socket.end();
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(timer));
}

// There is no response object for this; the words go to the socket as they are.
function answerRaw(socket: Duplex, error: DoorError): void {
  if (!socket.writable) return;
  const body = writeError(error, 'openai');
  socket.write(
    `HTTP/1.1 ${error.status} Refused\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  linger(socket);
}

import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import { writeError } from '../dialects/openai-chat/errors.ts';

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

const MOST_CONNECTIONS = 20_000;

/**
 * The HTTP server, with a guard on every event it emits. `upgrade`, `connect`, `checkContinue` and `checkExpectation`
 * never reach the `request` event, so a check that stands only there is walked around.
 */
export function openServer(handle: Handle): Server {
  const server = createServer({
    // Headers that are not all there by then are not coming. A body is waited for longer: its sender has proven itself by
    // then, and 25 MiB take minutes on a slow line. How long an answer may take is not limited here.
    headersTimeout: 10_000,
    requestTimeout: 300_000,
    connectionsCheckingInterval: 2_000,
    // Longer than the idle time-out of the load balancers in front (60 s), or they would reuse a socket we just closed.
    keepAliveTimeout: 65_000,
    maxHeaderSize: 16 * 1024,
    insecureHTTPParser: false,
  });
  server.maxConnections = MOST_CONNECTIONS;
  server.on('request', handle);
  // The body's reader gives leave to continue, once everything that needs only headers has passed.
  server.on('checkContinue', handle);
  server.on('checkExpectation', (_, response: ServerResponse) => refuse(response.socket, 'expectation_unsupported'));
  server.on('upgrade', (_, socket) => refuse(socket, 'upgrade_unsupported'));
  server.on('connect', (_, socket) => refuse(socket, 'upgrade_unsupported'));
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable) socket.destroy();
    else refuse(socket, error.code === 'HPE_HEADER_OVERFLOW' ? 'headers_too_large' : clientErrorCode(error));
  });
  return server;
}

function clientErrorCode(error: NodeJS.ErrnoException): ErrorCode {
  return error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'request_timeout' : 'request_malformed';
}

// There is no response object on these events, or none that may be trusted; the words go to the socket as they are.
function refuse(socket: Duplex | null, code: ErrorCode): void {
  const error = new ApiError(code);
  const body = writeError(error, undefined);
  socket?.end(
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}

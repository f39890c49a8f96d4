import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import { writeError } from '../dialects/openai-chat/errors.ts';
import { linger } from './linger.ts';

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

/** What one connection is at. */
type Line = { request: IncomingMessage; response: ServerResponse; waiting: number; isRefused: boolean };

// No client sends that many before it has read the first answer; every one of them is held in memory.
const MOST_WAITING = 100;

/**
 * A connection hears one request at a time. What was sent before the answer in front was complete waits for it, and is not
 * heard at all when that answer ended the connection: it may be what a refused request was meant to hide. A refusal that
 * belongs to no request waits for its turn too; written at once, it would stand in the middle of another answer or be taken
 * for it, behind a proxy by somebody else.
 */
export function oneAtATime(handle: Handle) {
  const lines = new WeakMap<Duplex, Line>();
  return {
    take(request: IncomingMessage, response: ServerResponse): void {
      const { socket } = request;
      // The answer in front has ended the connection, and Node still reads what came with it.
      if (!socket.writable) return;
      const line = lines.get(socket);
      if (line === undefined) {
        const first = { request, response, waiting: 0, isRefused: false };
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
    },

    /** Ends the connection with an answer to what could not be read: what stands behind the latest request, or inside it. */
    refuse(socket: Duplex, code: ErrorCode): void {
      const line = lines.get(socket);
      if (line === undefined || line.response.closed) return answer(socket, code);
      const { request, response } = line;
      const isInside = !request.complete && response.socket === socket && !response.headersSent;
      if (isInside) return answer(socket, code);
      // Node tells of it again with every byte that follows.
      if (!line.isRefused) response.once('close', () => answer(socket, code));
      line.isRefused = true;
    },

    /** For a connection on which nothing moves: an answer may be thinking, but none that is complete takes long to leave. */
    giveUp(socket: Duplex): void {
      const line = lines.get(socket);
      if (line === undefined || line.response.writableEnded) socket.destroy();
    },
  };
}

// With this Node hangs up, when an answer was the last one of its connection.
function lingerOn(socket: Socket, line: Line): void {
  const hangUp = socket.destroySoon.bind(socket);
  socket.destroySoon = () => {
    if (line.request.complete) return hangUp();
    line.request.resume();
    linger(socket);
  };
}

// There is no response object for this, or none that may be trusted; the words go to the socket as they are.
function answer(socket: Duplex, code: ErrorCode): void {
  // We have hung up, and what still comes is of no interest.
  if (!socket.writable) return;
  const error = new ApiError(code);
  const body = writeError(error, undefined);
  socket.write(
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  linger(socket);
}

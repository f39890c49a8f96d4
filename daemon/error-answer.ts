import type { ServerResponse } from 'node:http';
import { dialectOf, type Dialect } from './data-paths.ts';
import { DoorError } from './door-errors.ts';

const GOOGLE_STATUS: Readonly<Record<number, string>> = {
  400: 'INVALID_ARGUMENT',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  408: 'DEADLINE_EXCEEDED',
  503: 'UNAVAILABLE',
  504: 'DEADLINE_EXCEEDED',
};

/** An error as the caller's own client library reads it. */
export function writeError({ code, status, type, message }: DoorError, dialect: Dialect): string {
  switch (dialect) {
    case 'openai':
      return JSON.stringify({ error: { message, type: ofOpenAI(type), param: null, code } });
    case 'anthropic':
      return JSON.stringify({
        type: 'error',
        error: { type, message },
      });
    case 'google':
      return JSON.stringify({
        error: { code: status, message, status: GOOGLE_STATUS[status] ?? googleStatus(status) },
      });
  }
}

/** The same, as the last event of a stream that cannot go on. */
export function writeStreamError(error: DoorError, dialect: Dialect): string {
  // Google's streams have no named events: a client reads every data line as an answer, and finds the error in it.
  const name = dialect === 'google' ? '' : 'event: error\n';
  return `${name}data: ${writeError(error, dialect)}\n\n`;
}

/** What was thrown, as something that may be shown. */
export function asDoorError(thrown: unknown): DoorError {
  return thrown instanceof DoorError ? thrown : new DoorError('internal', { cause: thrown });
}

type Refused = {
  target: string;
  response: ServerResponse;
  /** Whether something of the request may still come; nobody will read it. */
  isUnread: boolean;
  headers: Readonly<Record<string, string>>;
};

/** The one place where something thrown becomes an answer. */
export function answerError({ target, response, isUnread, headers }: Refused, error: DoorError): void {
  if (response.headersSent) {
    // Too late for a status; a broken connection is the only way left to say that this is not the whole answer.
    response.destroy();
    return;
  }
  const body = writeError(error, dialectOf(target));
  response.writeHead(error.status, {
    ...headers,
    ...error.headers,
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(isUnread && { connection: 'close' }),
  });
  response.end(body);
}

function ofOpenAI(type: DoorError['type']): string {
  return type === 'request_too_large' ? 'invalid_request_error' : type;
}

function googleStatus(status: number): string {
  return status < 500 ? 'INVALID_ARGUMENT' : 'INTERNAL';
}

import type { IncomingMessage, ServerResponse } from 'node:http';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { writeError } from '../dialects/openai-chat/errors.ts';
import type { Logger } from '../log/logger.ts';
import { answerText } from './answer.ts';

type Exchange = {
  request: IncomingMessage;
  response: ServerResponse;
  answerHeaders: readonly string[];
  requestId?: string;
};

/**
 * The one place where something thrown becomes an answer. An ApiError was written for the caller; anything else is a
 * mistake of ours, whose words stay in the log.
 */
export function answerError(exchange: Exchange, thrown: unknown, log: Logger): ApiError {
  const error = thrown instanceof ApiError ? thrown : new ApiError('internal', { cause: thrown });
  const { request, response, answerHeaders, requestId } = exchange;
  if (error.type === 'api_error') {
    log[error.code === 'internal' ? 'error' : 'warn'](
      { requestId, code: error.code, cause: error.cause },
      error.message,
    );
  }
  if (response.headersSent) {
    // Too late for a status; a broken connection is the only way left to say that this is not the whole answer.
    response.destroy();
    return error;
  }
  const headers = new Map(Object.entries(error.headers));
  // What is left of an unread body would be read, to no end, before the next request; better to hang up.
  if (!request.complete) headers.set('connection', 'close');
  if (answerHeaders.includes('connection')) headers.delete('connection');
  answerText(exchange, error.status, writeError(error, requestId), [...headers].flat());
  return error;
}

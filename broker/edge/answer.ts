import type { ServerResponse } from 'node:http';

type Exchange = { response: ServerResponse; answerHeaders: readonly string[] };

/** Answers with JSON, together with the headers that the stages have left for any answer. */
export function answerJson(exchange: Exchange, status: number, value: unknown, headers: readonly string[] = []): void {
  answerText(exchange, status, JSON.stringify(value), headers);
}

/** The same for JSON that is already text. */
export function answerText(exchange: Exchange, status: number, text: string, headers: readonly string[] = []): void {
  const { response, answerHeaders } = exchange;
  const length = String(Buffer.byteLength(text));
  response.writeHead(status, [
    ...answerHeaders,
    ...headers,
    'content-type',
    'application/json; charset=utf-8',
    'content-length',
    length,
    'cache-control',
    'no-store',
    'x-content-type-options',
    'nosniff',
  ]);
  response.end(text);
}

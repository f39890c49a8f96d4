import { randomUUID } from 'node:crypto';
import { HEADER } from '@sallyport/protocol/headers.ts';

/** The name under which this request is found in every log. */
export type WithRequestId = { requestId: string };

/** Names the request and says so in the answer; always our own name, so that no caller can write into the logs. */
export function nameRequest({ answerHeaders }: { answerHeaders: string[] }): WithRequestId {
  const requestId = `req_${randomUUID()}`;
  answerHeaders.push(HEADER.requestId, requestId);
  return { requestId };
}

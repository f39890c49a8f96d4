import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { once } from 'node:events';
import { HEADER } from '@sallyport/protocol/headers.ts';
import type { SigningKey } from '@sallyport/protocol/keys.ts';
import { newNonce, signRequest } from '@sallyport/protocol/profile.ts';

type Asked = {
  /** Where the broker listens, and the name it is signed under: public_url. */
  base: URL;
  key: SigningKey;
  method: string;
  path: string;
  product?: string | undefined;
  body?: Buffer;
  now: () => number;
};

const LONGEST_WAIT_SECONDS = 30;

/**
 * Sends one signed request and gives the answer as it arrives. A clock that is off is corrected by the broker's own word,
 * once; a broker that has just started is waited for.
 */
export async function sendSigned(asked: Asked, say: (line: string) => void): Promise<IncomingMessage> {
  const answer = await send(asked, 0);
  const brokerTime = Number(answer.headers[HEADER.time]);
  if (answer.statusCode === 401 && brokerTime > 0) {
    answer.resume();
    return send(asked, brokerTime - asked.now());
  }
  const waitSeconds = Number(answer.headers[HEADER.retryAfter] ?? NaN);
  if (answer.statusCode === 503 && waitSeconds <= LONGEST_WAIT_SECONDS) {
    answer.resume();
    say(`The broker asks to wait ${waitSeconds} s…`);
    await new Promise((resolve) => setTimeout(resolve, waitSeconds * 1000));
    return send(asked, 0);
  }
  return answer;
}

async function send(
  { base, key, method, path, product, body, now }: Asked,
  offsetMs: number,
): Promise<IncomingMessage> {
  const authority = base.host.toLowerCase();
  const fields = {
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(product === undefined ? {} : { [HEADER.product]: product }),
  };
  const created = Math.floor((now() + offsetMs) / 1000);
  const unsigned = { method, authority, path, fields, ...(body === undefined ? {} : { body }) };
  const signature = signRequest(unsigned, key, { created, nonce: newNonce() });
  const request = (base.protocol === 'https:' ? httpsRequest : httpRequest)(new URL(path, base), {
    method,
    headers: { ...fields, ...signature, ...(body === undefined ? {} : { 'content-length': body.length }) },
  });
  request.end(body);
  const [answer] = (await once(request, 'response')) as [IncomingMessage];
  // From here on a broken connection is a broken answer, and is told where the answer is read.
  request.on('error', (error) => answer.destroy(error));
  return answer;
}

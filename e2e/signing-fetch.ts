import { newNonce, signRequest } from '@sallyport/protocol/profile.ts';
import { keyOf, type SECRETS } from './world.ts';

/** A fetch that signs, as the README shows it: what the OpenAI library needs to know of us. */
export function signingFetch(client: keyof typeof SECRETS, now: () => number = Date.now): typeof fetch {
  return async (input, init = {}) => {
    const url = new URL(String(input));
    const given = new Headers(init.headers);
    // The library's own key is not ours, and its content type must not stand without a body.
    given.delete('authorization');
    const body = init.body == null ? undefined : Buffer.from(String(init.body));
    if (body === undefined) given.delete('content-type');
    const fields = Object.fromEntries(given);
    const method = init.method ?? 'GET';
    const unsigned = { method, authority: url.host, path: url.pathname, query: url.search, fields };
    const moment = { created: Math.floor(now() / 1000), nonce: newNonce() };
    const signature = signRequest(body === undefined ? unsigned : { ...unsigned, body }, keyOf(client), moment);
    return fetch(url, { ...init, headers: { ...fields, ...signature } });
  };
}

import { isIP } from 'node:net';
import { isPublic } from '@sallyport/protocol/addresses.ts';
import { Secret } from '@sallyport/protocol/secret.ts';
import { Refusal } from './refusal.ts';

/** Where people and daemons reach this broker: an origin such as `https://broker.example.com`. */
export function readPublicUrl(text: string): string {
  const url = readUrl(text);
  if (/[?#]/.test(text) || WITH_USER.test(text) || url.pathname !== '/') {
    throw new Refusal(
      'Write only scheme, host and port, as in https://broker.example.com; there is no path, query or password in it.',
    );
  }
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    throw new Refusal('Write an https address; plain http is taken only for 127.0.0.1, [::1] and localhost.');
  }
  return url.origin;
}

/** A further `host` or `host:port` that is ours, in the one form that Host headers are compared in. */
export function readAuthority(text: string): string {
  if (!/^(\[[\da-f:.]+\]|[\w.-]+)(:\d{1,5})?$/i.test(text) || !URL.canParse(`https://${text}`)) {
    throw new Refusal('Write a host, or host:port, as in broker.internal:8443; no scheme and no path.');
  }
  return authorityOf(`https://${text}`);
}

/** The authority of a URL in its normal form: lower case, and no port where it is the usual one of the scheme. */
export function authorityOf(url: string): string {
  return new URL(url).host;
}

/** The root of a provider's API, without a slash at its end. The URL of one of its endpoints is what many people have at hand. */
export function readBaseUrl(text: string): string {
  const url = readUrl(text);
  if (WITH_USER.test(text)) {
    throw new Refusal('Take the user name and password out of the URL; the key belongs in api_key.');
  }
  if (/[?#]/.test(text)) throw new Refusal('Write the URL without a query (?…) and without a fragment (#…).');
  const root = url.pathname.replace(/\/+$/, '').replace(/\/+(chat\/completions|embeddings)$/, '');
  return url.origin + root.replace(/\/+$/, '');
}

/** Where a Postgres is, with the password in it. */
export function readDatabaseUrl(text: string): Secret {
  if (!/^postgres(?:ql)?(?:\+\w+)?:\/\/[^\s\p{C}]+$/u.test(text) || !URL.canParse(text)) {
    throw new Refusal(
      'Write the URL of a Postgres, as in postgresql://user:password@host:5432/name; characters like @ or / in the password as %40 and %2F.',
    );
  }
  if (new URL(text).pathname.length < 2)
    throw new Refusal('Name the database at the end of the URL, as in …:5432/sallyport.');
  return new Secret(text);
}

/** Whether a public address belongs to this machine alone. */
export function isLoopback(hostname: string): boolean {
  return ['127.0.0.1', '[::1]', 'localhost'].includes(hostname);
}

/** Whether a URL names a private address. This is said early and kindly; outbound/ holds it for every connection. */
export function isPrivate(url: string): boolean {
  const host = new URL(url).hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  return isIP(host) === 0 ? host === 'localhost' || host.endsWith('.localhost') : !isPublic(host);
}

// Looked for in what was written: an empty name leaves no trace in a URL, and still hides where the host begins.
const WITH_USER = /^\w+:\/\/[^/?#]*@/;
// What a resolver can look up, and what is not a name at all: https://{host} and https://a..b are URLs to `new URL`.
const HOST = /^(?:\[[\da-f:.]+\]|(?=.{1,254}$)(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?)$/;

// `new URL` mends what it is given (it drops line breaks and characters that nobody sees, turns \ into / and skips a third
// slash), and a mended address is not what was written.
function readUrl(text: string): URL {
  if (!/^https?:\/\/(?!\/)[^\s\p{C}\\]+$/iu.test(text) || !URL.canParse(text)) {
    throw new Refusal('Write a whole URL that begins with https:// or http://.');
  }
  const url = new URL(text);
  if (!HOST.test(url.hostname)) {
    throw new Refusal('Write a host of letters, digits, hyphens and single dots, or an IP address.');
  }
  return url;
}

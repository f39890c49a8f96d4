import type { IncomingMessage } from 'node:http';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { isLoopback } from '@sallyport/protocol/addresses.ts';
import type { WithTarget } from './target.ts';

/** The host the request was sent to, as a signature covers it; undefined where we cannot know our own name. */
export type WithAuthority = { authority: string | undefined };

type Settings = {
  /** The names we answer to, normalised; empty when there is no public_url. */
  authorities: readonly string[];
  /** Paths that probes call by address, whatever name they were given. */
  exempt: ReadonlySet<string>;
};

const LOOPBACK_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/;

/** Refuses a Host that is not ours: whoever chooses it would otherwise choose what a signature is checked against. */
export function checkHost({ authorities, exempt }: Settings) {
  const ours = new Set(authorities);
  return ({ request, fields, path }: WithTarget & { request: IncomingMessage }): WithAuthority => {
    const host = (fields.get('host') ?? '').toLowerCase();
    const authority = host.endsWith(':443') ? host.slice(0, -4) : host;
    if (ours.has(authority)) return { authority };
    if (exempt.has(path)) return { authority: undefined };
    if (ours.size > 0 || host === '') throw new ApiError('host_unknown');
    // No public_url: only on this very machine can the name be trusted to be what it says.
    const isLocal = LOOPBACK_HOST.test(host) && isLoopback(request.socket.remoteAddress ?? '');
    return { authority: isLocal ? authority : undefined };
  };
}

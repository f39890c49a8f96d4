import { isIP } from 'node:net';
import type { IncomingMessage } from 'node:http';

/** Where the request came from, as far as that can be known. */
export type WithAddress = { address: string };

/**
 * Finds the caller's address. Every proxy appends what it saw, so only the right-most `trustedHops` entries were written by
 * proxies of ours; whatever stands left of them was written by the caller.
 */
export function findAddress(trustedHops: number) {
  return ({ request, fields }: { request: IncomingMessage; fields: ReadonlyMap<string, string> }): WithAddress => {
    const peer = plain(request.socket.remoteAddress ?? '');
    if (trustedHops === 0) return { address: peer };
    const hops = (fields.get('x-forwarded-for') ?? '').split(',');
    const seen = plain(hops[hops.length - trustedHops]?.trim() ?? '');
    return { address: isIP(seen) === 0 ? peer : seen };
  };
}

// An IPv4 caller on a dual-stack socket appears as ::ffff:192.0.2.1; it is the same caller.
function plain(address: string): string {
  return address.startsWith('::ffff:') ? address.slice(7) : address;
}

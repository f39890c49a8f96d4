import type { IncomingMessage } from 'node:http';
import { isLoopback } from '@sallyport/protocol/addresses.ts';
import { DoorError } from './door-errors.ts';

type Heard = Pick<IncomingMessage, 'rawHeaders' | 'httpVersion'> & {
  socket: { remoteAddress?: string | undefined };
};

type Settings = {
  /** The port that this listener has, since it is a part of every Host that is meant for it. */
  port: number;
  /** The origins that the person has listed, exactly as browsers write them; asked anew each time. */
  origins: () => ReadonlySet<string>;
};

/** The origin of a web page that may read the answer; undefined for a program. */
export type Guarded = { origin: string | undefined };

/**
 * Which requests are heard at all. Any web page can send requests to this machine, from a page of its own or under a name
 * that it has pointed at 127.0.0.1; what it cannot do is write these three headers as it likes.
 */
export function openGuard({ port, origins }: Settings) {
  const hosts = new Set([`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`]);

  return (request: Heard): Guarded => {
    // Some systems route what comes for 127.0.0.1 over the network to a loopback listener; the sender's address tells.
    if (!isLoopback(request.socket.remoteAddress ?? '')) throw new DoorError('peer_refused');
    checkHost(request, hosts);
    // In 1.0 an answer without a length ends where its connection does, and a broken one would pass for whole.
    if (request.httpVersion !== '1.1') throw new DoorError('http_version_refused');
    const origin = checkOrigin(request, origins());
    // A listed page says where it comes from in both headers; for everybody else this one stands on requests without Origin.
    if (origin === undefined) checkSite(request);
    return { origin };
  };
}

// A page under evil.example that rebinds its name to 127.0.0.1 sends `Host: evil.example`, and cannot send another. Compared
// byte for byte, from the raw headers: Node keeps the first of two, and URL parsers read 127.1, 0x7f000001 and [::ffff:7f00:1]
// as this machine.
function checkHost({ rawHeaders }: Heard, hosts: ReadonlySet<string>): void {
  const [host, ...more] = valuesOf(rawHeaders, 'host');
  if (host === undefined || more.length > 0 || !hosts.has(host.toLowerCase())) throw new DoorError('host_refused');
}

// Browsers send it with every request a page makes across origins, but for images and the like.
function checkOrigin({ rawHeaders }: Heard, origins: ReadonlySet<string>): string | undefined {
  const [origin, ...more] = valuesOf(rawHeaders, 'origin');
  if (origin === undefined) return undefined;
  // `null` is what files and sandboxed frames say, whoever they belong to.
  if (more.length > 0 || origin === 'null' || !origins.has(origin)) throw new DoorError('origin_refused');
  return origin;
}

// What has no Origin, such as an image or a link, has this; `none` is an address that a person typed. Sec-Fetch-Mode says
// nothing: Node's own fetch sends it.
function checkSite({ rawHeaders }: Heard): void {
  const sites = valuesOf(rawHeaders, 'sec-fetch-site');
  if (sites.some((site) => site !== 'none')) throw new DoorError('site_refused');
}

/** Every value of a header, as it was sent. */
export function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  return rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]!.toLowerCase() === name);
}

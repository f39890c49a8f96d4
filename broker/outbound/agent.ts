import { lookup as systemLookup, type LookupAddress, type LookupAllOptions } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { Agent, buildConnector } from 'undici';
import { isPublic } from '@sallyport/protocol/addresses.ts';

/** Finds every address of a name. */
export type Lookup = (
  host: string,
  options: LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

type Settings = { allowPrivate: boolean; connectTimeoutMs: number; lookup?: Lookup };

/** Thrown where a provider's name leads to an address that it must not lead to. */
export class PrivateAddressError extends Error {
  constructor(host: string, address: string) {
    super(
      `${host} is at ${address}, which is not a public address; set allow_private on the provider if that is meant`,
    );
    this.name = 'PrivateAddressError';
  }
}

/**
 * The way out to one provider. Names are resolved once per connection and that very address is dialled, so that a name
 * cannot be public when it is checked and private when it is used.
 */
export function providerAgent({ allowPrivate, connectTimeoutMs, lookup = systemLookup }: Settings): Agent {
  const connect = buildConnector({
    timeout: connectTimeoutMs,
    allowH2: false,
    lookup: findAddresses(lookup, allowPrivate ? () => true : isPublic),
    // A model may think for minutes without a byte: probes tell a vendor that thinks from one that is gone, and keep the
    // NATs and load balancers on the way from forgetting a silent connection.
    keepAlive: true,
    keepAliveInitialDelay: 15_000,
  });
  return new Agent({
    connect: (options, callback) => {
      const host = options.hostname.replace(/^\[|\]$/g, '');
      // A literal address is never looked up, so it is checked here.
      if (!allowPrivate && isIP(host) !== 0 && !isPublic(host)) {
        callback(new PrivateAddressError(host, host), null);
      } else {
        connect(options, callback);
      }
    },
    // One request a connection: behind a slow stream a pipelined one would wait for minutes.
    pipelining: 1,
    keepAliveTimeout: 60_000,
    // Over HTTP/2 all streams of a vendor share one connection, and with it one fate and one window.
    allowH2: false,
    // The relay watches the time by itself; the library's five minutes would end long thinking.
    headersTimeout: 0,
    bodyTimeout: 0,
    maxHeaderSize: 64 * 1024,
  });
}

// Judges the very list that is then dialled; one address that may not be reached spoils the name.
function findAddresses(lookup: Lookup, mayBeReached: (address: string) => boolean): LookupFunction {
  return (host, options, callback) => {
    lookup(host, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, '', 0);
      const hidden = addresses.find(({ address }) => !mayBeReached(address));
      if (hidden !== undefined) return callback(new PrivateAddressError(host, hidden.address), '', 0);
      if (options.all === true) return callback(null, addresses);
      callback(null, addresses[0]!.address, addresses[0]!.family);
    });
  };
}

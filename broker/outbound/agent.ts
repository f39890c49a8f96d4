import { lookup as systemLookup, type LookupAddress } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { Agent, buildConnector } from 'undici';
import { isPublic } from '@sallyport/protocol/addresses.ts';

type Settings = { allowPrivate: boolean; connectTimeoutMs: number };

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
export function providerAgent({ allowPrivate, connectTimeoutMs }: Settings): Agent {
  const connect = buildConnector({
    timeout: connectTimeoutMs,
    ...(allowPrivate ? {} : { lookup: publicLookup }),
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
    // The relay sets both for every request; the library's five minutes would end long thinking.
    headersTimeout: 0,
    bodyTimeout: 0,
    maxHeaderSize: 64 * 1024,
  });
}

const publicLookup: LookupFunction = (host, options, callback) => {
  systemLookup(host, { ...options, all: true }, (error, found) => {
    if (error !== null) return callback(error, '', 0);
    const addresses = found as LookupAddress[];
    const hidden = addresses.find(({ address }) => !isPublic(address));
    if (hidden !== undefined) return callback(new PrivateAddressError(host, hidden.address), '', 0);
    if (options.all === true) return callback(null, addresses);
    callback(null, addresses[0]!.address, addresses[0]!.family);
  });
};

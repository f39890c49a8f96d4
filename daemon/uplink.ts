import { createReadStream } from 'node:fs';
import http, { type ClientRequest, type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { getCACertificates, TLSSocket } from 'node:tls';
import { isLoopback } from '@sallyport/protocol/addresses.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import type { SigningKey } from '@sallyport/protocol/keys.ts';
import { newNonce, signRequest, type Tag } from '@sallyport/protocol/profile.ts';
import { ClockOffset } from './clock.ts';
import { UplinkError, uplinkErrorOf } from './uplink-error.ts';

// The only file that leaves this machine: it signs, and it sends. It follows no redirect, decodes nothing, and tries again in
// one case alone: where the broker said what time it is, and nothing had been done.

/** A request for the broker. */
export type Outgoing = {
  method: string;
  path: string;
  /** `?` and what follows it, or the empty string. */
  query: string;
  fields: Record<string, string>;
  /** The digest of a file is the value of its Content-Digest. */
  body?: { bytes: Buffer } | { file: string; length: number; digest: string };
  tag: Tag;
  signal: AbortSignal;
};

/** The head of the broker's answer, and the stream of its body. */
export type Incoming = { status: number; headers: readonly string[]; body: IncomingMessage };

/** Signs, sends, and signs once more when only the clock was wrong. */
export type Uplink = { send(outgoing: Outgoing): Promise<Incoming> };

/** An uplink with what its owner needs beside sending. */
export type OpenUplink = Uplink & {
  /** For the conversation before there is a key. */
  sendUnsigned(outgoing: Omit<Outgoing, 'tag'>): Promise<Incoming>;
  /** How far the broker's clock was found to be ahead. */
  readonly offsetMs: number;
  /** Ends every connection, those in use too. */
  close(): void;
};

export type UplinkSettings = {
  brokerUrl: string;
  signingKey: () => Promise<SigningKey>;
  installId: string;
  bootId: string;
  now: () => number;
  elapsedMs: () => number;
  /** Certificates in PEM that are believed beside Node's own. */
  extraCas?: readonly string[];
  /** Whether the certificates of the system are believed too. */
  systemCas?: boolean;
  /** HTTPS_PROXY, HTTP_PROXY and NO_PROXY, when the person has switched them on. */
  proxyEnv?: Record<string, string>;
  /** A token for a front end that asks for one, as Cloud Run does. */
  serverlessToken?: () => Promise<string>;
  connectMs?: number;
};

const CONNECT_MS = 10_000;

// The broker ends a connection that was idle for 65 s. Ours ends first, or a request could run into its end.
const IDLE_MS = 55_000;

// Nobody is heard on a dead connection. The system asks after 15 s of silence, and gives up 10 s later.
const PROBE_AFTER_MS = 15_000;

const MOST_HEADER_BYTES = 32_768;

/** Reads a broker's address as a person writes it: an origin and nothing else. */
export function readBrokerUrl(text: string): URL {
  const url = URL.parse(text.trim());
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:') || url.hostname === '') {
    throw wrongAddress('The address of the broker is not a URL; write it like https://broker.example.com.');
  }
  if (url.username !== '' || url.password !== '' || url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw wrongAddress(
      `The address of the broker is a host alone, without a path or a name; write ${url.protocol}//${url.host}.`,
    );
  }
  // Enrolment needs no secrecy, but a time that anybody could have written, and prompts in the clear, are another matter.
  if (url.protocol === 'http:' && !isThisMachine(url)) {
    throw wrongAddress(`Plain http is for a broker on this machine only; use https://${url.host}.`);
  }
  return url;
}

function wrongAddress(sentence: string): UplinkError {
  return new UplinkError('broker_url', sentence, { sent: false });
}

function isThisMachine({ hostname }: URL): boolean {
  return hostname === 'localhost' || isLoopback(hostname.replace(/^\[|\]$/g, ''));
}

/** Opens the way to one broker. Nothing is sent yet. */
export function openUplink(settings: UplinkSettings): OpenUplink {
  const url = readBrokerUrl(settings.brokerUrl);
  const clock = new ClockOffset(settings.now, settings.elapsedMs);
  const agent = makeAgent(url, settings);

  async function send(outgoing: Outgoing): Promise<Incoming> {
    if (clock.hasJumped()) dropIdle(agent);
    const first = await sign(outgoing);
    const { incoming, ...exchange } = await deliver(outgoing, first);
    if (!canLearnFrom(incoming, exchange)) return incoming;
    // The answer is ours now and of no use to anyone: an unread one would hold its connection for ever.
    incoming.body.resume();
    return (await deliver(outgoing, await sign(outgoing))).incoming;
  }

  async function sign(outgoing: Outgoing): Promise<Record<string, string>> {
    const { method, path, query, tag, body } = outgoing;
    const key = await settings.signingKey();
    const fields: Record<string, string> = {
      ...outgoing.fields,
      [HEADER.install]: settings.installId,
      [HEADER.boot]: settings.bootId,
      ...(body !== undefined && 'file' in body && { [HEADER.contentDigest]: body.digest }),
    };
    const bytes = body !== undefined && 'bytes' in body ? { body: body.bytes } : {};
    const moment = { created: clock.nowSeconds(), nonce: newNonce(), tag };
    return { ...fields, ...signRequest({ method, authority: url.host, path, query, fields, ...bytes }, key, moment) };
  }

  function canLearnFrom({ status, body }: Incoming, exchange: { sentAt: number; answeredAt: number }): boolean {
    const time = body.headers[HEADER.time];
    // Only a signature outside its window is answered with the time, and only whoever holds the key is told. The way there
    // is TLS that was checked, or this machine: openUplink takes no other address.
    return status === 401 && typeof time === 'string' && clock.learn(time, exchange);
  }

  async function deliver(outgoing: Omit<Outgoing, 'tag'>, fields: Record<string, string>) {
    const { signal, body } = outgoing;
    if (body !== undefined && 'file' in body && body.length === 0) {
      throw new TypeError('an empty body is no body; leave it out');
    }
    const headers: Record<string, string | number> = { ...fields, host: url.host };
    if (body !== undefined) headers['content-length'] = 'bytes' in body ? body.bytes.length : body.length;
    if (settings.serverlessToken !== undefined) {
      headers['x-serverless-authorization'] = `Bearer ${await settings.serverlessToken()}`;
    }
    const request = (url.protocol === 'https:' ? https : http).request({
      agent,
      protocol: url.protocol,
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? undefined : url.port,
      method: outgoing.method,
      path: outgoing.path + outgoing.query,
      headers,
      signal,
      maxHeaderSize: MOST_HEADER_BYTES,
      insecureHTTPParser: false,
    });
    return exchangeOver(request, outgoing);
  }

  function exchangeOver(request: ClientRequest, { body, signal }: Pick<Outgoing, 'body' | 'signal'>) {
    const { promise, resolve, reject } = Promise.withResolvers<{
      incoming: Incoming;
      sentAt: number;
      answeredAt: number;
    }>();
    let sentAt: number | undefined;
    const fail = (error: unknown) => {
      clearTimeout(connecting);
      reject(signal.aborted ? signal.reason : uplinkErrorOf(error, { host: url.host, sent: sentAt !== undefined }));
    };
    const connecting = setTimeout(
      () => request.destroy(Object.assign(new Error('connect time-out'), { code: 'ETIMEDOUT' })),
      settings.connectMs ?? CONNECT_MS,
    );
    const connected = () => {
      clearTimeout(connecting);
      sentAt = settings.now();
    };
    request.on('socket', (socket: Socket) => {
      // Through a proxy the handshake is over before we are given the socket.
      const isReady = socket instanceof TLSSocket ? socket.getFinished() !== undefined : !socket.connecting;
      if (isReady) connected();
      else socket.once(socket instanceof TLSSocket ? 'secureConnect' : 'connect', connected);
    });
    // Node would only hang up, and nobody would be told.
    request.once('upgrade', (_: IncomingMessage, socket: Socket) => {
      socket.destroy();
      const sentence = `What answers at ${url.host} switches protocols, which a broker never does; check its address.`;
      fail(new UplinkError('broker_garbled', sentence, { sent: true }));
    });
    request.once('response', (incoming: IncomingMessage) => {
      const status = incoming.statusCode ?? 0;
      // A client of ours that followed it would take its prompt to wherever it points. The broker sends none.
      if (status < 200 || (status >= 300 && status < 400)) {
        request.destroy();
        const sentence = `What answers at ${url.host} sends elsewhere (status ${status}), which a broker never does; check its address, and whether something in front of it asks for a login.`;
        return reject(new UplinkError('broker_garbled', sentence, { sent: true }));
      }
      const answeredAt = settings.now();
      resolve({
        incoming: { status, headers: incoming.rawHeaders, body: incoming },
        sentAt: sentAt ?? answeredAt,
        answeredAt,
      });
    });
    request.on('error', fail);
    if (body === undefined) request.end();
    else if ('bytes' in body) request.end(body.bytes);
    else {
      // Not one byte more than was hashed: the file may have grown since.
      const file = createReadStream(body.file, { end: body.length - 1 });
      pipeline(file, request, (error) => {
        if (error !== undefined && error !== null) fail(error);
      });
    }
    return promise;
  }

  return {
    send,
    async sendUnsigned(outgoing) {
      return (await deliver(outgoing, outgoing.fields)).incoming;
    },
    get offsetMs() {
      return clock.offsetMs;
    },
    close: () => agent.destroy(),
  };
}

function makeAgent(url: URL, { extraCas = [], systemCas = false, proxyEnv }: UplinkSettings): http.Agent {
  const usual = {
    keepAlive: true,
    keepAliveInitialDelay: PROBE_AFTER_MS,
    keepAliveMsecs: PROBE_AFTER_MS,
    noDelay: true,
    // On a connection in use this only says that nothing moved; an idle one is ended by it.
    timeout: IDLE_MS,
    // Whatever the environment says, a proxy is used only when the person has switched it on.
    proxyEnv: proxyEnv ?? {},
  };
  if (url.protocol === 'http:') return new http.Agent(usual);
  const others = [...(systemCas ? getCACertificates('system') : []), ...extraCas];
  return new https.Agent({
    ...usual,
    minVersion: 'TLSv1.2',
    // Said here, so that NODE_TLS_REJECT_UNAUTHORIZED cannot say otherwise.
    rejectUnauthorized: true,
    ...(others.length > 0 && { ca: [...getCACertificates('default'), ...others] }),
  });
}

// After a sleep the other side has forgotten them, and says so only when a request runs into it.
function dropIdle(agent: http.Agent): void {
  for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
}

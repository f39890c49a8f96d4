import { resolve } from 'node:path';
import { authorityOf, isLoopback } from './addresses.ts';
import type { Config } from './config.ts';
import type { Environment } from './expand.ts';
import type { Settings } from './schema.ts';

const OPENAI = 'https://api.openai.com/v1';

type Surroundings = { dataFolder: string; env: Environment };

/** Makes the configuration from settings that hold: in our own words and units, with the defaults that depend on others. */
export function build(settings: Settings, { dataFolder, env }: Surroundings): Config {
  const { public_url: publicUrl, public_authorities, listen, log, limits, streams, shutdown } = settings;
  const authorities = new Set([...(publicUrl === undefined ? [] : [authorityOf(publicUrl)]), ...public_authorities]);
  const isLocal = publicUrl !== undefined && isLoopback(new URL(publicUrl).hostname);
  const isBehindOneProxy = Boolean(env['K_SERVICE'] || env['RENDER']);
  return freeze({
    ...(publicUrl !== undefined && { publicUrl }),
    authorities: [...authorities],
    listen: { host: listen.host ?? (isLocal ? '127.0.0.1' : '::'), port: listen.port },
    data: resolve(dataFolder, settings.data),
    database: {
      ...(settings.database.url && { url: settings.database.url }),
      migratesAtStart: settings.database.migrate,
    },
    ...(settings.encryption.keys && { encryptionKeys: settings.encryption.keys }),
    ...(settings.first_invite && { firstInvite: settings.first_invite }),
    trustedProxyHops: settings.trusted_proxy_hops ?? (isBehindOneProxy ? 1 : 0),
    log,
    limits: {
      bodyBytes: limits.body_bytes,
      bodyMs: ms(limits.body_seconds),
      connections: limits.connections,
      address: pace(limits.address),
      enrolment: pace(limits.enrolment),
    },
    streams: { pingMs: ms(streams.ping_seconds), slowReaderMs: ms(streams.slow_reader_seconds) },
    shutdown: {
      acceptMs: ms(shutdown.accept_seconds),
      finishMs: ms(shutdown.finish_seconds),
      endMs: ms(shutdown.end_seconds),
    },
    hideUpstreamErrors: settings.hide_upstream_errors,
    providers: Object.entries(settings.providers).map(([name, provider]) => buildProvider(name, provider)),
    products: Object.entries(settings.products).map(([name, product]) => buildProduct(name, product)),
    clients: Object.entries(settings.clients).map(([name, client]) => buildClient(name, client)),
  });
}

function buildProvider(name: string, provider: Settings['providers'][string]): Config['providers'][number] {
  const { kind, base_url: baseUrl = OPENAI, api_key: apiKey, models, allow_private: allowPrivate, timeouts } = provider;
  const every = {
    name,
    ...(models && { models }),
    allowPrivate,
    timeouts: {
      connectMs: ms(timeouts.connect_seconds),
      headersMs: ms(timeouts.headers_seconds),
      firstByteMs: ms(timeouts.first_byte_seconds),
      idleMs: ms(timeouts.idle_seconds),
      totalMs: ms(timeouts.total_seconds),
    },
  };
  return kind === 'echo' ? { ...every, kind } : { ...every, kind, baseUrl, ...(apiKey && { apiKey }) };
}

function buildProduct(name: string, product: Settings['products'][string]): Config['products'][number] {
  const { models, max_tokens: maxTokens, temperature, rate } = product;
  return {
    name,
    models,
    ...(maxTokens !== undefined && { maxTokens }),
    ...(temperature && { temperature }),
    rate: { ...pace(rate), perDay: rate.per_day },
  };
}

function buildClient(name: string, client: Settings['clients'][string]): Config['clients'][number] {
  const { products, secret, public_key: publicKey } = client;
  if (secret) return { name, products, key: { algorithm: 'hmac-sha256', secret } };
  if (publicKey) return { name, products, key: { algorithm: 'ed25519', publicKey } };
  throw new TypeError('a client without a key passed the checks');
}

function ms(seconds: number): number {
  return Math.ceil(seconds * 1000);
}

function pace(written: { burst: number; per_second: number }) {
  return { burst: written.burst, perSecond: written.per_second };
}

// Maps and lists only: a Secret is closed by itself, and a KeyObject is Node's.
function freeze<Value>(value: Value): Value {
  const prototype: unknown = typeof value === 'object' && value !== null ? Object.getPrototypeOf(value) : undefined;
  if (prototype === Object.prototype || prototype === Array.prototype) {
    for (const inner of Object.values(value as object)) freeze(inner);
    Object.freeze(value);
  }
  return value;
}

import { isPrivate } from './addresses.ts';
import type { Environment } from './expand.ts';
import { faultOfName, NAMED_SECTIONS } from './names.ts';
import { nearest } from './nearest.ts';
import { isWritten, namesIn } from './place.ts';
import type { Finding, Place } from './place.ts';
import type { Settings } from './schema.ts';

type Provider = Settings['providers'][string];
type Client = Settings['clients'][string];

/**
 * The rules between settings: what each of them allows, and together they do not. `place` tells what was written, even
 * wrongly: that was told already, and must not be called missing as well.
 */
export function check(settings: Settings, place: Place, env: Environment): Finding[] {
  return [
    ...checkNames(place),
    ...checkDatabase(settings, place, env),
    ...checkFirstInvite(settings, place),
    ...Object.entries(settings.providers).flatMap(([name, provider]) => checkProvider(name, provider, place)),
    ...checkModels(settings, place),
    ...Object.entries(settings.clients).flatMap(([name, client]) => checkClient(name, client, place)),
    ...checkKeysDiffer(settings.clients),
  ];
}

function checkNames(place: Place): Finding[] {
  return NAMED_SECTIONS.flatMap((section) =>
    namesIn(place, section).flatMap((name) => {
      const says = faultOfName(section, name);
      return says === undefined ? [] : [{ path: [section, name], at: 'key' as const, says }];
    }),
  );
}

function checkDatabase({ database, encryption, instances }: Settings, place: Place, env: Environment): Finding[] {
  if (isWritten(place, ['database', 'url'])) {
    if (isWritten(place, ['encryption', 'keys']) || encryption.keys !== undefined) return [];
    // The first words are those of a server that we replace; people look for them.
    const says =
      'ENCRYPTION_KEY environment variable is not set. With Postgres a key is needed; make one with sallyport-broker keys new, and keep it where the database is not.';
    return [{ path: ['encryption', 'keys'], says }];
  }
  if (database.allow_sqlite) return [];
  const why = env['K_SERVICE']
    ? 'On Cloud Run the disk is gone with the instance, and every enrolled device with it'
    : instances > 1
      ? 'Several instances cannot share a SQLite file'
      : undefined;
  if (why === undefined) return [];
  const says = `${why}; set DATABASE_URL to a Postgres, or accept it with SALLYPORT_ALLOW_SQLITE=true.`;
  return [{ path: env['K_SERVICE'] ? ['database', 'url'] : ['instances'], says }];
}

function checkFirstInvite({ first_invite: first }: Settings, place: Place): Finding[] {
  const known = namesIn(place, 'products');
  if (first === undefined || known.includes(first.product)) return [];
  const meant = nearest(first.product, known);
  const says = `There is no such product; ${meant ? `did you mean ${meant}?` : 'write it under products first.'}`;
  return [{ path: ['first_invite'], says }];
}

// prettier-ignore
const TAKES = {
  'openai':            { base_url: 'optional', api_key: 'required' },
  'openai-compatible': { base_url: 'required', api_key: 'optional' },
  'echo':              { base_url: 'refused',  api_key: 'refused'  },
} as const;

function checkProvider(name: string, provider: Provider, place: Place): Finding[] {
  const findings: Finding[] = [];
  for (const setting of ['base_url', 'api_key'] as const) {
    const path = ['providers', name, setting];
    const rule = TAKES[provider.kind][setting];
    const written = isWritten(place, path);
    if (rule === 'required' && !written) {
      findings.push({ path, says: `This setting is missing; a provider of kind ${provider.kind} needs it.` });
    }
    if (rule === 'refused' && written) {
      const says = `A provider of kind ${provider.kind} has no use for this; take it away.`;
      findings.push({ path, at: 'key', says });
    }
  }
  const says = faultOfAddress(provider);
  if (says !== undefined) findings.push({ path: ['providers', name, 'base_url'], says });
  return findings;
}

function faultOfAddress({ kind, base_url: url, allow_private: mayBePrivate }: Provider): string | undefined {
  if (url === undefined || mayBePrivate || kind === 'echo') return undefined;
  if (isPrivate(url)) return 'This is a private address; if it is meant, add allow_private: true to this provider.';
  const isPlain = url.startsWith('http:');
  return isPlain ? 'Over plain http the key can be read on the way; use https, or add allow_private: true.' : undefined;
}

function checkModels({ providers, products }: Settings, place: Place): Finding[] {
  // A provider that could not be read might serve anything.
  if (namesIn(place, 'providers').length > Object.keys(providers).length) return [];
  const served = new Set<string>();
  for (const { models } of Object.values(providers)) {
    if (models === undefined) return [];
    for (const model of models) served.add(model);
  }
  return Object.entries(products).flatMap(([name, { models }]) =>
    models.flatMap((model, index) => {
      if (model.includes('*') || served.has(model)) return [];
      const meant = nearest(model, served);
      const says = `No provider serves this model; ${meant ? `did you mean ${meant}?` : 'add it to the models of one.'}`;
      return [{ path: ['products', name, 'models', index], says }];
    }),
  );
}

function checkClient(name: string, { products }: Client, place: Place): Finding[] {
  const findings: Finding[] = [];
  const path = ['clients', name];
  const keys = ['secret', 'public_key'].filter((setting) => isWritten(place, [...path, setting]));
  if (keys.length === 0) {
    findings.push({ path, at: 'key', says: 'A client needs a key; write its secret or its public_key.' });
  }
  if (keys.length === 2) {
    const says = 'A client has one key; keep either secret or public_key.';
    findings.push({ path: [...path, 'public_key'], at: 'key', says });
  }
  const known = namesIn(place, 'products');
  for (const [index, product] of products.entries()) {
    if (known.includes(product)) continue;
    const meant = nearest(product, known);
    const says = `There is no such product; ${meant ? `did you mean ${meant}?` : 'write it under products first.'}`;
    findings.push({ path: [...path, 'products', index], says });
  }
  return findings;
}

// Who shares a key cannot be told apart in the log, nor shut out alone. Secrets are compared here and go no further.
function checkKeysDiffer(clients: Settings['clients']): Finding[] {
  const holders = new Map<string, string>();
  return Object.entries(clients).flatMap(([name, { secret, public_key: publicKey }]) => {
    const key = secret?.reveal().toString('hex') ?? publicKey?.export({ format: 'jwk' }).x;
    if (key === undefined) return [];
    const holder = holders.get(key);
    holders.set(key, holder ?? name);
    if (holder === undefined) return [];
    const path = ['clients', name, secret === undefined ? 'public_key' : 'secret'];
    return [{ path, says: `The client ${holder} has the same key; give each client its own.` }];
  });
}

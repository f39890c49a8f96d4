import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readConfig } from './config.ts';
import type { Config, Environment, Reading } from './config.ts';
import { EXAMPLE } from './reference.ts';

// A folder that holds these files and nothing else.
function folder(files: Record<string, string>) {
  return (path: string): string => {
    const text = files[path];
    if (text === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
    return text;
  };
}

function read(yaml: string, env: Environment = {}): Reading {
  return readConfig({ env, cwd: '/srv', readFile: folder({ '/srv/sallyport.yaml': yaml }) });
}

function configOf(reading: Reading): Config {
  assert.deepEqual(reading.mistakes ?? [], []);
  assert.ok(reading.config);
  return reading.config;
}

const without = (env: Environment = {}): Config => configOf(readConfig({ env, cwd: '/srv', readFile: folder({}) }));

describe('configuration', () => {
  it('starts without a file, with every default', () => {
    assert.deepEqual(without(), {
      authorities: [],
      listen: { host: '::', port: 8080 },
      data: '/srv/data',
      database: { migratesAtStart: true },
      trustedProxyHops: 0,
      log: { level: 'info' },
      limits: {
        bodyBytes: 26_214_400,
        bodyMs: 60_000,
        connections: 10_000,
        address: { burst: 500, perSecond: 250 },
        enrolment: { burst: 300, perSecond: 2 },
      },
      streams: { pingMs: 15_000, slowReaderMs: 60_000 },
      shutdown: { acceptMs: 0, finishMs: 7000, endMs: 1000 },
      hideUpstreamErrors: false,
      providers: [],
      products: [],
      clients: [],
    });
  });

  it('reads providers in their order, with what their kind implies', () => {
    const { providers } = configOf(
      read(
        `
providers:
  zeta: { kind: openai, api_key: k, models: [gpt-4o] }
  house: { kind: openai-compatible, base_url: "http://127.0.0.1:11434/v1/chat/completions", allow_private: true }
  alpha: { kind: echo, timeouts: { connect_seconds: 0.5 } }
`,
      ),
    );
    const timeouts = { connectMs: 5000, headersMs: 30_000, firstByteMs: 120_000, idleMs: 60_000, totalMs: 600_000 };
    const [zeta, house, alpha] = providers;
    assert.ok(zeta?.kind === 'openai' && house?.kind === 'openai-compatible');
    assert.equal(zeta.apiKey?.reveal(), 'k');
    assert.equal(zeta.baseUrl, 'https://api.openai.com/v1');
    assert.deepEqual(zeta.models, ['gpt-4o']);
    assert.deepEqual(house, {
      name: 'house',
      allowPrivate: true,
      timeouts,
      kind: 'openai-compatible',
      baseUrl: 'http://127.0.0.1:11434/v1',
    });
    assert.deepEqual(alpha, {
      name: 'alpha',
      allowPrivate: false,
      timeouts: { ...timeouts, connectMs: 500 },
      kind: 'echo',
    });
  });

  for (const [written, root] of [
    ['https://api.example.com', 'https://api.example.com'],
    ['https://API.example.com:443/', 'https://api.example.com'],
    ['https://api.example.com/v1/', 'https://api.example.com/v1'],
    ['https://api.example.com/v1/chat/completions', 'https://api.example.com/v1'],
    ['https://api.example.com/v1/embeddings/', 'https://api.example.com/v1'],
    ['https://api.example.com/embeddings', 'https://api.example.com'],
    ['https://api.example.com/my-embeddings', 'https://api.example.com/my-embeddings'],
    ['https://api.example.com/@me/v1', 'https://api.example.com/@me/v1'],
    ['https://api_2.example.com.:8443', 'https://api_2.example.com.:8443'],
    ['https://bücher.example.com', 'https://xn--bcher-kva.example.com'],
    ['https://[2606:4700::1111]', 'https://[2606:4700::1111]'],
  ]) {
    it(`takes the base_url ${written} as ${root}`, () => {
      const { providers } = configOf(read(`providers: { a: { kind: openai-compatible, base_url: "${written}" } }`));
      assert.equal(providers[0]?.kind === 'openai-compatible' && providers[0].baseUrl, root);
    });
  }

  it('reads what a product allows, with the rate of its own or the usual one', () => {
    const { products } = configOf(
      read(`
providers: { any: { kind: echo } }
products:
  full: { models: [gpt-4o, "*-mini"], max_tokens: 8192, temperature: [0, 1.5], rate: { burst: 1, per_second: 0.2, per_day: 9 } }
  short: { models: ["*"], rate: { burst: 3 } }
`),
    );
    assert.deepEqual(products, [
      {
        name: 'full',
        models: ['gpt-4o', '*-mini'],
        maxTokens: 8192,
        temperature: [0, 1.5],
        rate: { burst: 1, perSecond: 0.2, perDay: 9 },
      },
      { name: 'short', models: ['*'], rate: { burst: 3, perSecond: 5, perDay: 200_000 } },
    ]);
  });

  for (const [form, written, bytes] of [
    ['plain text', 'grüße aus dem maschinenraum, 32 bytes', Buffer.from('grüße aus dem maschinenraum, 32 bytes')],
    ['hex', `hex:${'0aFf'.repeat(16)}`, Buffer.from('0aff'.repeat(16), 'hex')],
    ['base64', `base64:${Buffer.alloc(32, 7).toString('base64')}`, Buffer.alloc(32, 7)],
  ] as const) {
    it(`reads a secret written as ${form}`, () => {
      const [client] = configOf(read(clientWith(`secret: "${written}"`))).clients;
      assert.ok(client?.key.algorithm === 'hmac-sha256');
      assert.deepEqual(client.key.secret.reveal(), bytes);
    });
  }

  it('reads a public key, as PEM and as its raw bytes', () => {
    const { publicKey } = generateKeyPairSync('ed25519');
    const raw = Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url').toString('base64');
    const pem = publicKey.export({ format: 'pem', type: 'spki' }).toString();
    for (const written of [raw, pem]) {
      const [client] = configOf(read(clientWith(`public_key: ${JSON.stringify(written)}`))).clients;
      assert.ok(client?.key.algorithm === 'ed25519');
      assert.ok(client.key.publicKey.equals(publicKey));
    }
  });

  it('knows every name of its own, in normal form and once', () => {
    const { publicUrl, authorities } = configOf(
      read(
        'public_url: https://Broker.Example.com:443/\npublic_authorities: [ALT.example.com:443, "[::1]:8443", broker.example.com]',
      ),
    );
    assert.equal(publicUrl, 'https://broker.example.com');
    assert.deepEqual(authorities, ['broker.example.com', 'alt.example.com', '[::1]:8443']);
  });

  for (const [url, host] of [
    ['http://localhost:8080', '127.0.0.1'],
    ['http://127.0.0.1', '127.0.0.1'],
    ['https://[::1]', '127.0.0.1'],
    ['https://broker.example.com', '::'],
  ]) {
    it(`listens on ${host} for ${url}`, () => assert.equal(without({ SALLYPORT_PUBLIC_URL: url }).listen.host, host));
  }

  it('is frozen all the way down', () => {
    const config = configOf(read(EXAMPLE, { OPENAI_API_KEY: 'k', DESKTOP_SECRET: 's'.repeat(32) }));
    const openings: string[] = [];
    const look = (value: unknown, path: string): void => {
      if (typeof value !== 'object' || value === null || path.endsWith('.secret') || path.endsWith('Key')) return;
      if (!Object.isFrozen(value)) openings.push(path);
      for (const [name, inner] of Object.entries(value)) look(inner, `${path}.${name}`);
    };
    look(config, 'config');
    assert.deepEqual(openings, []);
  });
});

describe('environment', () => {
  it('beats the file, setting by setting', () => {
    const file =
      'public_url: https://a.example.com\npublic_authorities: [x.example.com]\nlisten: { host: 10.0.0.1, port: 1 }\ndata: d\ntrusted_proxy_hops: 0\nlog: { level: warn }\nlimits: { body_bytes: 1024, address: { burst: 7 } }';
    const { publicUrl, authorities, listen, data, trustedProxyHops, log, limits } = configOf(
      read(file, {
        SALLYPORT_PUBLIC_URL: 'https://b.example.com',
        SALLYPORT_PUBLIC_AUTHORITIES: 'y.example.com, z.example.com:8443,',
        SALLYPORT_HOST: '::1',
        PORT: '9000',
        SALLYPORT_DATA: '/var/lib/sallyport',
        SALLYPORT_TRUSTED_PROXY_HOPS: '2',
        SALLYPORT_LOG_LEVEL: 'debug',
        SALLYPORT_BODY_BYTES: '2048',
      }),
    );
    assert.deepEqual(
      { publicUrl, authorities, listen, data, trustedProxyHops, log, limits },
      {
        publicUrl: 'https://b.example.com',
        authorities: ['b.example.com', 'y.example.com', 'z.example.com:8443'],
        listen: { host: '::1', port: 9000 },
        data: '/var/lib/sallyport',
        trustedProxyHops: 2,
        log: { level: 'debug' },
        limits: {
          bodyBytes: 2048,
          bodyMs: 60_000,
          connections: 10_000,
          address: { burst: 7, perSecond: 250 },
          enrolment: { burst: 300, perSecond: 2 },
        },
      },
    );
  });

  it('is not set by an empty variable', () =>
    assert.equal(without({ PORT: '', SALLYPORT_CONFIG: '' }).listen.port, 8080));

  it('tells one proxy hop on Cloud Run and on Render, unless another number is given', () => {
    assert.equal(without({ K_SERVICE: 'broker', SALLYPORT_ALLOW_SQLITE: 'true' }).trustedProxyHops, 1);
    assert.equal(without({ RENDER: 'true' }).trustedProxyHops, 1);
    assert.equal(without({ RENDER: 'true', SALLYPORT_TRUSTED_PROXY_HOPS: '0' }).trustedProxyHops, 0);
  });

  it('names a Postgres and the keys that encrypt, in the forms in which people have them', () => {
    const key = Buffer.from(Array.from({ length: 32 }, (_, i) => 251 - i));
    const forms = [
      key.toString('hex'),
      key.toString('base64'),
      key.toString('base64url'),
      `${key.toString('base64url')}=`,
    ];
    const env = { DATABASE_URL: 'postgresql+asyncpg://u:p%40ss@db:5432/s', ENCRYPTION_KEY: forms.join(',') };
    const { database, encryptionKeys } = without(env);
    assert.equal(database.url?.reveal(), env.DATABASE_URL);
    assert.deepEqual(
      encryptionKeys?.map((one) => one.reveal()),
      forms.map(() => key),
    );
  });

  it('passes over the variables of a daemon on the same machine', () => {
    const env = {
      SALLYPORT_HOME: '/h',
      SALLYPORT_PORT: '1',
      SALLYPORT_KEYCHAIN: 'file',
      SALLYPORT_INSECURE_KEY_FILE: 'true',
    };
    assert.deepEqual(without(env), without({}));
  });

  it('may hold variables with our prefix that the file mentions', () => {
    const { data } = configOf(read('data: ${SALLYPORT_PLACE}', { SALLYPORT_PLACE: '/place' }));
    assert.equal(data, '/place');
  });
});

describe('the file', () => {
  const readFile = folder({
    '/etc/one.yaml': 'data: one',
    '/srv/sub/two.yaml': 'data: two',
    '/srv/sallyport.yaml': 'data: three',
  });
  const dataOf = (env: Environment, file?: string) => configOf(readConfig({ env, cwd: '/srv', file, readFile })).data;

  it('is the one of --config, else of SALLYPORT_CONFIG, else ./sallyport.yaml; its paths begin at its folder', () => {
    assert.equal(dataOf({ SALLYPORT_CONFIG: '/etc/one.yaml' }, 'sub/two.yaml'), '/srv/sub/two');
    assert.equal(dataOf({ SALLYPORT_CONFIG: '/etc/one.yaml' }), '/etc/one');
    assert.equal(dataOf({}), '/srv/three');
  });

  it('leaves a path from the environment to begin at the current folder', () => {
    assert.equal(dataOf({ SALLYPORT_DATA: 'here' }, '/etc/one.yaml'), '/srv/here');
  });

  it('may begin with a byte order mark and have Windows line ends', () => {
    assert.deepEqual(configOf(read('\uFEFFlisten:\r\n  port: 1\r\n')).listen.port, 1);
  });
});

describe('variables in the file', () => {
  for (const [written, env, data] of [
    ['${A}', { A: '/a' }, '/a'],
    ['/x/${A}/${B}', { A: 'a', B: 'b' }, '/x/a/b'],
    ['${A:-/a}', {}, '/a'],
    ['${A:-/a}', { A: '' }, '/a'],
    ['${A:-/a}', { A: '/b' }, '/b'],
    ['/x${A:-}', {}, '/x'],
    ['${A:?say where}', { A: '/a' }, '/a'],
    ['/$${A}', {}, '/${A}'],
    ['/$A/$$B', { A: 'a' }, '/$A/$$B'],
    ['${A}', { A: '/${B}', B: 'b' }, '/${B}'],
    ['${A}', { A: '/x: [y]\nlisten: { port: 1 }' }, '/x: [y]\nlisten: { port: 1 }'],
  ] as [string, Environment, string][]) {
    it(`reads ${written} as ${JSON.stringify(data)} with ${JSON.stringify(env)}`, () => {
      assert.equal(configOf(read(`data: ${written}`, env)).data, data);
    });
  }

  it('may stand for a number, for true and false, and for a list', () => {
    const yaml = `
listen: { port: "\${P}" }
providers: { a: { kind: openai-compatible, base_url: http://10.0.0.1, allow_private: "\${PRIVATE}", models: "\${MODELS:-m, n}" } }
limits: { address: { per_second: "\${PACE:-0.5}" } }`;
    const { listen, providers, limits } = configOf(read(yaml, { P: '81', PRIVATE: 'true' }));
    assert.equal(listen.port, 81);
    assert.equal(limits.address.perSecond, 0.5);
    assert.deepEqual([providers[0]?.allowPrivate, providers[0]?.models], [true, ['m', 'n']]);
  });

  it('stays text where text is wanted, even if it looks like a number', () => {
    assert.equal(configOf(read('data: ${A}', { A: '123' })).data, '/srv/123');
  });
});

function clientWith(key: string): string {
  return `
providers: { any: { kind: echo } }
products: { p: { models: ["*"] } }
clients: { c: { ${key}, products: [p] } }
`;
}

describe('the shape that people are shown first', () => {
  it('reads, with variables that have no quotes inside braces', () => {
    const yaml = `
public_url: https://broker.example.com
data: ./data
providers:
  openai:      { kind: openai, api_key: \${OPENAI_API_KEY}, models: [gpt-4o, gpt-4o-mini] }
  house-model: { kind: openai-compatible, base_url: http://127.0.0.1:11434/v1, allow_private: true }
products:
  product-a: { models: [gpt-4o, "gpt-4o-*"], max_tokens: 8192, temperature: [0, 2], rate: { burst: 10, per_second: 5, per_day: 200000 } }
clients:
  desktop: { secret: \${DESKTOP_SECRET}, products: [product-a] }
`;
    const env = { OPENAI_API_KEY: 'sk-1', DESKTOP_SECRET: 'x'.repeat(32) };
    const { config, mistakes } = readConfig({ env, cwd: '/srv', readFile: () => yaml });
    assert.deepEqual(mistakes, undefined);
    assert.equal(config?.clients[0]?.key.algorithm, 'hmac-sha256');
  });
});

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readConfig } from './config.ts';
import type { Environment, Mistake } from './config.ts';

function mistakesIn(yaml: string | undefined, env: Environment = {}, file?: string): readonly Mistake[] {
  const readFile = () => {
    if (yaml === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
    return yaml;
  };
  return readConfig({ env, cwd: '/srv', file, readFile }).mistakes ?? [];
}

type Row = [what: string, yaml: string, place: string, says: string, env?: Environment];

const ENV = { KEY: 'k'.repeat(32), OTHER: 'o'.repeat(32), EMPTY: '' };
const NO_ALIAS =
  'YAML takes a * at the beginning for an alias, which is not read here; put a pattern in quotes, as in "*-mini".';
const NO_FORM = 'Write a variable as ${NAME}, ${NAME:-default} or ${NAME:?message}; for a plain ${ write $${.';
const SERVED = 'providers: { any: { kind: echo } }\n';
const OFFERED = `${SERVED}products: { p: { models: ["*"] } }\n`;
const PRIVATE_KEY = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
const RSA_KEY = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'pem', type: 'spki' });
const NO_URL = 'Write a whole URL that begins with https:// or http://.';
const NO_HOST = 'Write a host of letters, digits, hyphens and single dots, or an IP address.';
const NO_USER = 'Take the user name and password out of the URL; the key belongs in api_key.';
const NO_ORIGIN =
  'Write only scheme, host and port, as in https://broker.example.com; there is no path, query or password in it.';
const NO_AUTHORITY = 'Write a host, or host:port, as in broker.internal:8443; no scheme and no path.';
const NO_DATABASE =
  'Write the URL of a Postgres, as in postgresql://user:password@host:5432/name; characters like @ or / in the password as %40 and %2F.';
const NO_ENCRYPTION_KEY = 'This is not a key of 32 bytes; make a new one with: sallyport-broker keys new';
const IS_PRIVATE = 'This is a private address; if it is meant, add allow_private: true to this provider.';

// One mistake a line, however long the line: what is told, for which file, where, in which words.
// prettier-ignore
const TABLE: Record<string, Row[]> = {
  'the database': [
    ['another kind', `database: { url: "mysql://u:p@h/d" }\nencryption: { keys: ["${'00'.repeat(32)}"] }`, '1:18 database.url', NO_DATABASE],
    ['no name', `database: { url: "postgres://u:p@h:5432/" }\nencryption: { keys: ["${'00'.repeat(32)}"] }`, '1:18 database.url', 'Name the database at the end of the URL, as in …:5432/sallyport.'],
    ['no keys', 'database: { url: "postgres://u:p@h/d" }', '1:1 encryption.keys', 'ENCRYPTION_KEY environment variable is not set. With Postgres a key is needed; make one with sallyport-broker keys new, and keep it where the database is not.'],
    ['a short key', 'encryption: { keys: [abcd] }', '1:22 encryption.keys[0]', NO_ENCRYPTION_KEY],
    ['an empty key', 'encryption: { keys: [""] }', '1:22 encryption.keys[0]', 'The key is empty; write it here, or set the variable that holds it.'],
    ['a key of 33 bytes', `encryption: { keys: ["${Buffer.alloc(33).toString('base64')}"] }`, '1:22 encryption.keys[0]', NO_ENCRYPTION_KEY],
    ['SQLite on Cloud Run', 'log: { level: info }', '1:1 database.url', 'On Cloud Run the disk is gone with the instance, and every enrolled device with it; set DATABASE_URL to a Postgres, or accept it with SALLYPORT_ALLOW_SQLITE=true.', { K_SERVICE: 'broker' }],
    ['SQLite and two instances', 'instances: 2', '1:12 instances', 'Several instances cannot share a SQLite file; set DATABASE_URL to a Postgres, or accept it with SALLYPORT_ALLOW_SQLITE=true.'],
  ],
  'the YAML itself': [
    ['an empty file', '', '1:1', 'The file is empty; write settings into it, or start without it.'],
    ['comments only', '# soon\n', '1:1', 'The file is empty; write settings into it, or start without it.'],
    ['a text', 'hello\n', '1:1', 'Write one setting a line here, each as `name: value`.'],
    ['a list', '# x\n- a\n', '2:1', 'Write one setting a line here, each as `name: value`.'],
    ['a tab', 'log:\n\tlevel: info\n', '2:1', 'A tab indents this line; YAML takes only spaces.'],
    ['two documents', 'data: a\n---\ndata: b\n', '2:1', 'A second document begins here; write everything in one, without ---.'],
    ['an open bracket', 'public_authorities: [a\ndata: b\n', '2:1', 'The indentation does not fit here; line it up with its neighbours, and close what { or [ opened.'],
    ['an open quote', 'data: "a\nlog: {}\n', '3:1', 'A colon, a comma or a closing quote is missing here or before.'],
    ['a lost closing brace', 'data: }\n', '1:7', 'YAML cannot be read from here on; check the quotes, brackets and colons.'],
    ['crooked lines', 'listen:\n   port: 1\n  host: x\n', '3:1', 'The indentation does not fit here; line it up with its neighbours, and close what { or [ opened.'],
    ['two names in one line', 'data: a: b\n', '1:7', 'A second `name:` begins inside this value; give it a line of its own, or put the value in quotes.'],
    ['no space after the colon', 'data:x\nlog: {}\n', '1:1', 'A name must fit on one line; perhaps the colon after it, or the space after the colon, is missing.'],
    ['no space after the colon, in braces', 'log: { level:info }\n', '1:8 log.level…', 'There is no such setting; a space is missing after the colon.'],
    ['a reserved character', 'data: @x\n', '1:7', 'A value cannot begin with this character; put the value in quotes.'],
    ['an unknown escape', 'data: "C:\\q"\n', '1:10', 'YAML knows no such escape; write \\\\ for a backslash, or use single quotes.'],
    ['a tag', 'data: !path x\n', '1:7', 'Tags (!name) are not read here; write the plain value.'],
    ['a name that is a list', '? [a]\n: b\n', '1:3', 'A name must be plain text.'],
    ['an alias', 'data: &d x\nlog: { level: *d }\n', '2:15 log.level', NO_ALIAS],
    ['a pattern without quotes', 'products:\n  p: { models: [*-mini] }\n', '2:17 products.p.models[0]', NO_ALIAS],
    ['a * without quotes', 'products:\n  p: { models: [*] }\n', '2:17', NO_ALIAS],
    ['a name twice', 'data: a\nlog: {}\ndata: b\n', '3:1 data', 'This name stands here twice; keep one.'],
    ['a name twice, further in', 'listen: { port: 1, port: 2 }\n', '1:20 listen.port', 'This name stands here twice; keep one.'],
    ['__proto__', 'listen: { __proto__: {} }\n', '1:11 listen.__proto__', 'This name cannot be used; choose another.'],
  ],
  variables: [
    ['one in braces that is not set', 'log: { level: ${NOPE} }\n', '1:15 log.level', 'The variable NOPE is not set; set it, or write ${NOPE:-default}.'],
    ['one in braces that is required', 'log: { level: ${NOPE:?say which: a, b} }\n', '1:15 log.level', 'The variable NOPE is not set: say which: a, b.'],
    ['one that is not set', 'data: /x/${NOPE}\n', '1:7 data', 'The variable NOPE is not set; set it, or write ${NOPE:-default}.'],
    ['one that is required', 'data: ${NOPE:?say where}\n', '1:7 data', 'The variable NOPE is not set: say where.'],
    ['one that is required, and empty', 'data: ${EMPTY:?Say where!}\n', '1:7 data', 'The variable EMPTY is not set: Say where!'],
    ['a form that the shell has and we have not', 'data: ${KEY:+x}\n', '1:7 data', NO_FORM],
    ['one that does not end', 'data: ${KEY\n', '1:7 data', NO_FORM],
    ['one inside another', 'data: ${NOPE:-${KEY}}\n', '1:7 data', NO_FORM],
    ['one that is no number', 'listen: { port: "${KEY}" }\n', '1:17 listen.port', 'Write a whole number from 0 to 65535; this is text.'],
    ['a number of several', 'listen: { port: "${A}${B}" }\n', '1:17 listen.port', 'Write a whole number from 0 to 65535; this is text.', { A: '8', B: '0' }],
  ],
  'the broker': [
    ['an unknown setting', 'lissten: {}\n', '1:1 lissten', 'There is no such setting here; did you mean listen?'],
    ['an unknown setting, unlike any', 'log: { colour: red }\n', '1:8 log.colour', 'There is no such setting here; there is only level.'],
    ['an unknown setting, unlike any of two', 'listen: { <<: {} }\n', '1:11 listen.…', 'There is no such setting here; there are host and port.'],
    ['a section without anything', 'limits:\n', '1:1 limits', 'There is no value here; write a map, one `name: value` a line, or take the name away.'],
    ['a list for a section', 'limits: [1]\n', '1:9 limits', 'Write a map, one `name: value` a line; this is a list.'],
    ['a quoted number', 'listen: { port: "80" }\n', '1:17 listen.port', 'Write a whole number from 0 to 65535; this is text.'],
    ['a port too high', 'listen: { port: 65536 }\n', '1:17 listen.port', 'Write a whole number from 0 to 65535.'],
    ['half a port', 'listen: { port: 80.5 }\n', '1:17 listen.port', 'Write a whole number from 0 to 65535.'],
    ['a host in brackets', 'listen: { host: "[::1]" }\n', '1:17 listen.host', 'Write an IP address without brackets, or a host name.'],
    ['an unknown level', 'log: { level: inof }\n', '1:15 log.level', 'Write one of fatal, error, warn, info, debug, trace and silent; did you mean info?'],
    ['too many hops', 'trusted_proxy_hops: 11\n', '1:21 trusted_proxy_hops', 'Write a whole number from 0 to 10.'],
    ['an empty path', 'data: ""\n', '1:7 data', 'Write the path of a folder.'],
    ['small bodies', 'limits:\n  body_bytes: 1023\n', '2:15 limits.body_bytes', 'Write a whole number from 1024 (1 KiB) to 1073741824 (1 GiB).'],
    ['large bodies', 'limits:\n  body_bytes: 1073741825\n', '2:15 limits.body_bytes', 'Write a whole number from 1024 (1 KiB) to 1073741824 (1 GiB).'],
    ['no time for a body', 'limits:\n  body_seconds: 0\n', '2:17 limits.body_seconds', 'Write a number of seconds above 0 and up to 3600.'],
    ['no connections', 'limits:\n  connections: 0\n', '2:16 limits.connections', 'Write a whole number from 1 to 1000000.'],
    ['too many connections', 'limits:\n  connections: 1000001\n', '2:16 limits.connections', 'Write a whole number from 1 to 1000000.'],
    ['half a connection', 'limits:\n  connections: 1.5\n', '2:16 limits.connections', 'Write a whole number from 1 to 1000000.'],
    ['no pace', 'limits: { address: { per_second: 0 } }\n', '1:34 limits.address.per_second', 'Write a number above 0 and up to 1000000.'],
    ['a host as public_url', 'public_url: broker.example.com\n', '1:13 public_url', NO_URL],
    ['a public_url with a line break', 'public_url: "https://a.example\\n.com"\n', '1:13 public_url', NO_URL],
    ['a public_url over http', 'public_url: http://broker.example.com\n', '1:13 public_url', 'Write an https address; plain http is taken only for 127.0.0.1, [::1] and localhost.'],
    ['a public_url with a path', 'public_url: https://a.example.com/x\n', '1:13 public_url', NO_ORIGIN],
    ['a public_url with a query', 'public_url: https://a.example.com/?\n', '1:13 public_url', NO_ORIGIN],
    ['a public_url with a password', 'public_url: https://u:p@a.example.com\n', '1:13 public_url', NO_ORIGIN],
    ['an authority with a scheme', 'public_authorities: [https://a.example.com]\n', '1:22 public_authorities[0]', NO_AUTHORITY],
    ['an authority with a path', 'public_authorities: [a, b/x]\n', '1:25 public_authorities[1]', NO_AUTHORITY],
    ['an authority with a port too high', 'public_authorities:\n  - a:70000\n', '2:5 public_authorities[0]', NO_AUTHORITY],
  ],
  providers: [
    ['no kind', 'providers:\n  a: {}\n', '2:3 providers.a.kind', 'This setting is missing; write one of openai, openai-compatible and echo.'],
    ['an unknown kind', 'providers:\n  a: { kind: opnai }\n', '2:14 providers.a.kind', 'Write one of openai, openai-compatible and echo; did you mean openai?'],
    ['openai without a key', 'providers:\n  a:\n    kind: openai\n', '2:3 providers.a.api_key', 'This setting is missing; a provider of kind openai needs it.'],
    ['openai-compatible without a URL', 'providers:\n  a: { kind: openai-compatible }\n', '2:3 providers.a.base_url', 'This setting is missing; a provider of kind openai-compatible needs it.'],
    ['echo with a key', 'providers:\n  a: { kind: echo, api_key: x }\n', '2:20 providers.a.api_key', 'A provider of kind echo has no use for this; take it away.'],
    ['echo with a URL', 'providers:\n  a: { kind: echo, base_url: https://a.example.com }\n', '2:20 providers.a.base_url', 'A provider of kind echo has no use for this; take it away.'],
    ['an empty key', 'providers:\n  a: { kind: openai, api_key: "${EMPTY}" }\n', '2:31 providers.a.api_key', 'The key is empty; write it here, or set the variable that holds it.'],
    ['a key with a line break', 'providers:\n  a:\n    kind: openai\n    api_key: |\n      k\n', '4:14 providers.a.api_key', 'A key is made of visible ASCII characters; look for a space or a line break at its end.'],
    ['no model', 'providers:\n  a: { kind: echo, models: [] }\n', '2:28 providers.a.models', 'Write a list of at least one model name.'],
    ['a pattern', 'providers:\n  a: { kind: echo, models: ["gpt-*"] }\n', '2:29 providers.a.models[0]', 'Write the full name of a model; patterns with * belong in the models of a product.'],
    ['a number for a model', 'providers:\n  a: { kind: echo, models: [m, 4] }\n', '2:32 providers.a.models[1]', 'Write a name, in quotes if it looks like a number; this is a number.'],
    ['yes', 'providers:\n  a: { kind: echo, allow_private: yes }\n', '2:35 providers.a.allow_private', 'Write true or false, without quotes; this is text.'],
    ['a timeout of nothing', 'providers:\n  a:\n    kind: echo\n    timeouts: { idle_seconds: 0 }\n', '4:31 providers.a.timeouts.idle_seconds', 'Write a number of seconds above 0 and up to 3600.'],
    ['a name in capitals', 'providers:\n  OpenAI: { kind: echo }\n', '2:3 providers.OpenAI', 'Name a provider with up to 64 of a-z, 0-9, dot, hyphen and underscore, a letter first.'],
    ['a list', 'providers:\n  - kind: echo\n', '2:3 providers', 'Write a map of providers, each as `name:` with its settings below; this is a list.'],
    ['a URL with a password', compatible('https://u:p@a.example.com'), '2:43 providers.a.base_url', NO_USER],
    ['a URL with an empty user name', compatible('https://@a.example.com'), '2:43 providers.a.base_url', NO_USER],
    ['a URL with a query', compatible('https://a.example.com/v1?x=1'), '2:43 providers.a.base_url', 'Write the URL without a query (?…) and without a fragment (#…).'],
    ['a URL with a fragment', compatible('https://a.example.com/v1#x'), '2:43 providers.a.base_url', 'Write the URL without a query (?…) and without a fragment (#…).'],
    ['another scheme', compatible('ftp://a.example.com'), '2:43 providers.a.base_url', NO_URL],
    ['a third slash', compatible('https:///a.example.com'), '2:43 providers.a.base_url', NO_URL],
    ['a character that nobody sees', compatible('https://a\\u00ad.example.com'), '2:43 providers.a.base_url', NO_URL],
    ['a host without a name', compatible('https://..'), '2:43 providers.a.base_url', NO_HOST],
    ['a host with a hole', compatible('https://a..example.com'), '2:43 providers.a.base_url', NO_HOST],
    ['a host with two dots behind', compatible('https://localhost..'), '2:43 providers.a.base_url', NO_HOST],
    ['a host to be filled in', compatible('https://{resource}.example.com'), '2:43 providers.a.base_url', NO_HOST],
    ['a host of any name', compatible('https://*.example.com'), '2:43 providers.a.base_url', NO_HOST],
    ['a label that is too long', compatible(`https://${'a'.repeat(64)}.example.com`), '2:43 providers.a.base_url', NO_HOST],
    ['a host that is too long', compatible(`https://${'a.'.repeat(127)}com`), '2:43 providers.a.base_url', NO_HOST],
    ['plain http', compatible('http://a.example.com'), '2:43 providers.a.base_url', 'Over plain http the key can be read on the way; use https, or add allow_private: true.'],
    ...[
      'localhost',
      'me.localhost',
      '127.0.0.1',
      '127.1',
      '0x7f000001',
      '10.0.0.1',
      '172.31.0.1',
      '192.168.0.1',
      '169.254.169.254',
      '100.64.0.1',
      '0.0.0.0',
      '[::1]',
      '[::]',
      '[fd00::1]',
      '[fe80::1]',
      '[::ffff:10.0.0.1]',
    ].map((host): Row => [
      `the private address ${host}`,
      compatible(`https://${host}/v1`),
      '2:43 providers.a.base_url',
      IS_PRIVATE,
    ]),
  ],
  products: [
    ['no models', 'products:\n  p: {}\n', '2:3 products.p.models', 'This setting is missing; write a list of at least one model name or pattern.'],
    ['an empty list of models', 'products:\n  p: { models: [] }\n', '2:16 products.p.models', 'Write a list of at least one model name or pattern.'],
    ['a model with a space', 'products:\n  p: { models: ["a *"] }\n', '2:17 products.p.models[0]', 'Write the name of a model: up to 200 visible ASCII characters.'],
    ['the name completions', `${SERVED}products:\n  completions: { models: [m] }\n`, '3:3 products.completions', 'Name it otherwise: /v1/chat/completions must stay the path that client libraries call, not that of a product.'],
    ['a name with a dot', `${SERVED}products:\n  a.b: { models: [m] }\n`, '3:3 products.a.b', 'Name a product with up to 63 of a-z, 0-9 and hyphen, a letter or digit first; the name stands in paths.'],
    ['a typing error in rate', 'products:\n  p: { models: ["*"], rate: { brust: 1 } }\n', '2:31 products.p.rate.brust', 'There is no such setting here; did you mean burst?'],
    ['a burst of nothing', 'products:\n  p: { models: ["*"], rate: { burst: 0 } }\n', '2:38 products.p.rate.burst', 'Write a whole number from 1 to 100000.'],
    ['a pace as text', 'products:\n  p: { models: ["*"], rate: { per_second: fast } }\n', '2:43 products.p.rate.per_second', 'Write a number above 0 and up to 100000; this is text.'],
    ['half a request a day', 'products:\n  p: { models: ["*"], rate: { per_day: 0.5 } }\n', '2:40 products.p.rate.per_day', 'Write a whole number from 1 to 1000000000.'],
    ['too many tokens', 'products:\n  p: { models: ["*"], max_tokens: 200001 }\n', '2:35 products.p.max_tokens', 'Write a whole number from 1 to 200000.'],
    ['a range upside down', 'products:\n  p: { models: ["*"], temperature: [1, 0] }\n', '2:36 products.p.temperature', 'Write two numbers from 0 to 2, the lower one first, as in [0, 1.5].'],
    ['a range too wide', 'products:\n  p: { models: ["*"], temperature: [0, 2.1] }\n', '2:36 products.p.temperature', 'Write two numbers from 0 to 2, the lower one first, as in [0, 1.5].'],
    ['half a range', 'products:\n  p: { models: ["*"], temperature: [0] }\n', '2:36 products.p.temperature', 'Write two numbers from 0 to 2, the lower one first, as in [0, 1.5].'],
    ['a word in a range', 'products:\n  p: { models: ["*"], temperature: [0, hot] }\n', '2:40 products.p.temperature[1]', 'Write two numbers from 0 to 2, the lower one first, as in [0, 1.5]; this is text.'],
    ['a model that nobody serves', 'products:\n  p: { models: ["x-*", gpt-4o] }\n', '2:24 products.p.models[1]', 'No provider serves this model; add it to the models of one.'],
    ['a model that is misspelt', 'providers: { a: { kind: echo, models: [gpt-4o] } }\nproducts:\n  p: { models: [gtp-4o] }\n', '3:17 products.p.models[0]', 'No provider serves this model; did you mean gpt-4o?'],
  ],
  clients: [
    ['no key', `${OFFERED}clients:\n  c: { products: [p] }\n`, '4:3 clients.c', 'A client needs a key; write its secret or its public_key.'],
    ['two keys', `${OFFERED}clients:\n  c: { secret: "\${KEY}", public_key: 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=, products: [p] }\n`, '4:26 clients.c.public_key', 'A client has one key; keep either secret or public_key.'],
    ['an empty secret', client('secret: "${EMPTY}"'), '4:16 clients.c.secret', 'The secret is empty; write it here, or set the variable that holds it.'],
    ['a short secret', client(`secret: ${'x'.repeat(31)}`), '4:16 clients.c.secret', 'The secret is shorter than 32 bytes; make a new one with: echo "hex:$(openssl rand -hex 32)"'],
    ['a secret that is short once it is decoded', client(`secret: hex:${'ab'.repeat(31)}`), '4:16 clients.c.secret', 'The secret is shorter than 32 bytes; make a new one with: echo "hex:$(openssl rand -hex 32)"'],
    ['a secret with a line break', client('secret: "${LINE}"'), '4:16 clients.c.secret', 'The secret begins or ends with a space or a line break; take it away.', { LINE: `${'x'.repeat(40)}\n` }],
    ['a digit of hex too many', client(`secret: hex:${'ab'.repeat(32)}a`), '4:16 clients.c.secret', 'After hex: write pairs of the digits 0 to 9 and a to f.'],
    ['hex that is none', client(`secret: hex:${'xy'.repeat(32)}`), '4:16 clients.c.secret', 'After hex: write pairs of the digits 0 to 9 and a to f.'],
    ['base64 that is none', client(`secret: base64:${'%'.repeat(60)}`), '4:16 clients.c.secret', 'After base64: write standard base64, with its = at the end.'],
    ['a private key', client(`public_key: ${JSON.stringify(PRIVATE_KEY)}`), '4:20 clients.c.public_key', 'This is a private key; write the public one here, and make a new pair, for this one has been shown.'],
    ['a key of another kind', client(`public_key: ${JSON.stringify(RSA_KEY)}`), '4:20 clients.c.public_key', 'Write an Ed25519 public key: PEM (BEGIN PUBLIC KEY), or the base64 of its 32 bytes.'],
    ['31 bytes of a key', client(`public_key: ${Buffer.alloc(31).toString('base64')}`), '4:20 clients.c.public_key', 'Write an Ed25519 public key: PEM (BEGIN PUBLIC KEY), or the base64 of its 32 bytes.'],
    ['a secret that another client has', `${client('secret: "${KEY}"')}  d: { secret: "\${KEY}", products: [p] }\n`, '5:16 clients.d.secret', 'The client c has the same key; give each client its own.'],
    ['the same bytes written otherwise', `${client('secret: "${KEY}"')}  d: { secret: hex:${Buffer.from(ENV.KEY).toString('hex')}, products: [p] }\n`, '5:16 clients.d.secret', 'The client c has the same key; give each client its own.'],
    ['no product', `${OFFERED}clients:\n  c: { secret: "\${KEY}", products: [] }\n`, '4:36 clients.c.products', 'Write a list of at least one product.'],
    ['an unknown product', 'clients:\n  c: { secret: "${KEY}", products: [p] }\n', '2:37 clients.c.products[0]', 'There is no such product; write it under products first.'],
    ['a misspelt product', `${SERVED}products: { product-a: { models: ["*"] } }\nclients:\n  c:\n    secret: \${KEY}\n    products: [product-a, prodcut-a]\n`, '6:27 clients.c.products[1]', 'There is no such product; did you mean product-a?'],
    ['a name that devices have', `${OFFERED}clients:\n  spk_1: { secret: "\${KEY}", products: [p] }\n`, '4:3 clients.spk_1', 'Name it otherwise: the name of a client is its key id, and spk_ begins the key ids of devices.'],
    ['a name with a space', `${OFFERED}clients:\n  my app: { secret: "\${KEY}", products: [p] }\n`, '4:3 clients.my…', 'Name a client with up to 64 of a-z, 0-9, dot, hyphen and underscore, a letter or digit first.'],
  ],
};

for (const [section, rows] of Object.entries(TABLE)) {
  describe(`mistakes in ${section}`, () => {
    for (const [what, yaml, place, says, env] of rows) {
      it(`tells ${what}`, () => {
        assert.deepEqual(mistakesIn(yaml, { ...ENV, ...env }), [{ place: `sallyport.yaml:${place}`, says }]);
      });
    }
  });
}

describe('mistakes in the environment', () => {
  // prettier-ignore
  for (const [env, place, says] of [
    [{ PORT: 'http' }, 'PORT', 'Write a whole number from 0 to 65535; this is text.'],
    [{ PORT: '-1' }, 'PORT', 'Write a whole number from 0 to 65535.'],
    [{ SALLYPORT_PUBLIC_URL: 'http://a.example.com' }, 'SALLYPORT_PUBLIC_URL', 'Write an https address; plain http is taken only for 127.0.0.1, [::1] and localhost.'],
    [{ SALLYPORT_PUBLIC_AUTHORITIES: 'a, b/c' }, 'SALLYPORT_PUBLIC_AUTHORITIES', NO_AUTHORITY],
    [{ SALLYPORT_HOST: 'a b' }, 'SALLYPORT_HOST', 'Write an IP address without brackets, or a host name.'],
    [{ SALLYPORT_LOG_LEVEL: 'debgu' }, 'SALLYPORT_LOG_LEVEL', 'Write one of fatal, error, warn, info, debug, trace and silent; did you mean debug?'],
    [{ SALLYPORT_TRUSTED_PROXY_HOPS: '1.5' }, 'SALLYPORT_TRUSTED_PROXY_HOPS', 'Write a whole number from 0 to 10.'],
    [{ SALLYPORT_BODY_BYTES: '25 MiB' }, 'SALLYPORT_BODY_BYTES', 'Write a whole number from 1024 (1 KiB) to 1073741824 (1 GiB); this is text.'],
    [{ SALLYPORT_PUBLIC_ULR: 'x' }, 'SALLYPORT_PUBLIC_ULR', 'There is no such variable; did you mean SALLYPORT_PUBLIC_URL?'],
    [{ SALLYPORT_WHATEVER: 'x' }, 'SALLYPORT_WHATEVER', 'There is no such variable; take it away, or mention it in the file.'],
    [{ SALLYPORT_CONFIG: 'x.yaml' }, 'SALLYPORT_CONFIG', 'There is no such file; give the path of one: /srv/x.yaml'],
  ] as [Environment, string, string][]) {
    it(`tells of ${JSON.stringify(env)}`, () => {
      assert.deepEqual(mistakesIn(undefined, env), [{ place: `environment ${place}`, says }]);
    });
  }

  it('tells of a file that --config names and that is not there', () => {
    const says = 'There is no such file; give the path of one: /srv/x.yaml';
    assert.deepEqual(mistakesIn(undefined, {}, 'x.yaml'), [{ place: 'option --config', says }]);
  });

  it('tells that the variable is wrong, and no more that the file was', () => {
    const [mistake, ...others] = mistakesIn('listen: { port: x }', { PORT: 'y' });
    assert.deepEqual([mistake?.place, others], ['environment PORT', []]);
  });

  it('tells that a list in a variable is wrong, not the one in the file that it stands for', () => {
    const env = { SALLYPORT_PUBLIC_AUTHORITIES: 'a, b/c' };
    const place = 'environment SALLYPORT_PUBLIC_AUTHORITIES';
    assert.deepEqual(mistakesIn('public_authorities: [d, e]', env), [{ place, says: NO_AUTHORITY }]);
  });

  it('tells that the file has no map where a variable belongs', () => {
    const says = 'Write a map, one `name: value` a line; this is text.';
    assert.deepEqual(mistakesIn('listen: here', { PORT: '80' }), [{ place: 'sallyport.yaml:1:9 listen', says }]);
  });
});

describe('mistakes together', () => {
  it('are all told at once, the environment first and then down the file', () => {
    const yaml = `
lissten: {}
log: { level: loud }
providers:
  vendor: { kind: openai, models: [gpt-4o] }
  house: { kind: openai-compatible, base_url: http://10.0.0.1, api_key: "\${NOPE}" }
products:
  a: { models: [gpt-5], rate: { burst: 0 } }
  completions: { models: [gpt-4o] }
  a: { models: [gpt-4o, gpt-6] }
clients:
  one: { secret: short, products: [b] }
  two: { products: [a, zzz], sercet: x }
`;
    assert.deepEqual(
      mistakesIn(yaml, { PORT: 'http', SALLYPORT_HOTS: 'x' }).map(({ place }) => place.replace('sallyport.yaml:', '')),
      [
        'environment PORT',
        'environment SALLYPORT_HOTS',
        '2:1 lissten',
        '3:15 log.level',
        '5:3 providers.vendor.api_key',
        '6:47 providers.house.base_url',
        '6:73 providers.house.api_key',
        '9:3 products.completions',
        '10:3 products.a',
        '12:18 clients.one.secret',
        '12:36 clients.one.products[0]',
        '13:3 clients.two',
        '13:24 clients.two.products[1]',
        '13:30 clients.two.sercet',
      ],
    );
  });

  it('do not come twice: a variable that is not set is not also a key that is missing', () => {
    const yaml = 'providers:\n  a: { kind: openai, api_key: "${NOPE}", models: ["${NOPE}"] }\n';
    assert.deepEqual(
      mistakesIn(yaml).map(({ place }) => place),
      ['sallyport.yaml:2:31 providers.a.api_key', 'sallyport.yaml:2:51 providers.a.models[0]'],
    );
  });

  it('do not come twice: a provider that cannot be read might serve every model', () => {
    const yaml = 'providers:\n  a: { models: [m] }\nproducts:\n  p: { models: [m, other] }\n';
    assert.deepEqual(
      mistakesIn(yaml).map(({ place }) => place),
      ['sallyport.yaml:2:3 providers.a.kind'],
    );
  });

  it('end a file that is nested without end, instead of the process', () => {
    for (const yaml of [`data: ${'['.repeat(2_000)}${']'.repeat(2_000)}`, '- '.repeat(2_000)]) {
      assert.equal(mistakesIn(yaml).length, 1);
    }
  });

  it('end a file whose aliases would grow without end', () => {
    const yaml = 'a: &a [x, x]\n' + Array.from('bcdefghijklmnopqrstuvwxyz', (_, n) => line(n)).join('');
    assert.ok(mistakesIn(yaml).length > 50);
  });
});

function line(n: number): string {
  const [before, name] = [n + 97, n + 98].map((code) => String.fromCharCode(code));
  return `${name}: &${name} [*${before}, *${before}]\n`;
}

function compatible(url: string): string {
  return `providers:\n  a: { kind: openai-compatible, base_url: "${url}" }\n`;
}

function client(key: string): string {
  return `${OFFERED}clients:\n  c: { ${key}, products: [p] }\n`;
}

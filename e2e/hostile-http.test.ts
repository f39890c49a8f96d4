import assert from 'node:assert/strict';
import { newNonce, signRequest } from '@sallyport/protocol/profile.ts';
import { CHAT, keyOf, openWorld, type World } from './world.ts';

const BODY = JSON.stringify(CHAT);

describe('over a raw socket', () => {
  let world: World;
  before(async () => void (world = await openWorld()));
  after(() => world.close());
  beforeEach(() => void (world.vendor.requests.length = 0));

  type Shape = {
    method?: string;
    target?: string;
    host?: string[];
    body?: string;
    extra?: string[];
    /** What is signed in place of what is sent. */
    signedPath?: string;
  };

  // A rightly signed request in every respect but the one that a row changes.
  function bytes({
    method = 'POST',
    target = '/v1/chat/completions',
    host,
    body = BODY,
    extra = [],
    signedPath,
  }: Shape): string {
    const [path = '', query] = (signedPath ?? target).split('?');
    const hasBody = body !== '';
    const signature = signRequest(
      {
        method,
        authority: world.authority,
        path,
        query: query === undefined ? '' : `?${query}`,
        fields: hasBody ? { 'content-type': 'application/json' } : {},
        ...(hasBody ? { body: Buffer.from(body) } : {}),
      },
      keyOf('desktop'),
      { created: Math.floor(Date.now() / 1000), nonce: newNonce() },
    );
    const lines = [
      `${method} ${target} HTTP/1.1`,
      ...(host ?? [world.authority]).map((value) => `Host: ${value}`),
      ...(hasBody ? ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`] : []),
      ...Object.entries(signature).map(([name, value]) => `${name}: ${value}`),
      ...extra,
      'Connection: close',
    ];
    return `${lines.join('\r\n')}\r\n\r\n${body}`;
  }

  const statusOf = (answer: string) => Number(answer.slice(9, 12));

  it('a rightly signed request is let in: what follows is refused for its own reason', async () => {
    assert.equal(statusOf(await world.raw(bytes({}))), 200);
    assert.equal(world.vendor.requests.length, 1);
  });

  type Row = [what: string, shape: Shape | (() => Shape | string), status: number, code: string];
  const deep = (depth: number) => `{"model":"gpt-4o","messages":[],"x":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  const rows: Row[] = [
    // Host: exactly one, and ours.
    ['another host', { host: ['evil.example.com'] }, 421, 'host_unknown'],
    ['a host that begins as ours', () => ({ host: [`${world.authority}.evil.example.com`] }), 421, 'host_unknown'],
    ['our host with a dot behind it', () => ({ host: [`${world.authority}.`] }), 421, 'host_unknown'],
    ['our host on another port', { host: ['127.0.0.1:1'] }, 421, 'host_unknown'],
    ['our host behind a name', () => ({ host: [`broker.example.com@${world.authority}`] }), 421, 'host_unknown'],
    ['an empty host', { host: [''] }, 421, 'host_unknown'],
    [
      'the machine under another spelling',
      () => ({ host: [world.authority.replace('127.0.0.1', '127.1')] }),
      421,
      'host_unknown',
    ],
    ['two hosts', () => ({ host: [world.authority, world.authority] }), 400, 'header_repeated'],
    ['two hosts, the second hostile', () => ({ host: [world.authority, 'evil.example.com'] }), 400, 'header_repeated'],
    ['no host', { host: [] }, 400, ''],

    // Targets: one plain path.
    [
      'an absolute target',
      () => ({ target: `http://${world.authority}/v1/chat/completions` }),
      400,
      'target_malformed',
    ],
    [
      'an absolute target elsewhere',
      { target: 'http://evil.example.com/v1/chat/completions' },
      400,
      'target_malformed',
    ],
    ['a percent sign in the path', { target: '/v1/chat/%63ompletions' }, 400, 'target_malformed'],
    ['an encoded slash', { target: '/v1%2Fchat/completions' }, 400, 'target_malformed'],
    ['a percent sign in a product', { target: '/v1/chat/product%2Da' }, 400, 'target_malformed'],
    ['a double slash', { target: '//v1/chat/completions' }, 400, 'target_malformed'],
    ['dots that climb', { target: '/v1/models/../chat/completions' }, 400, 'target_malformed'],
    ['a dot that stays', { target: '/v1/./chat/completions' }, 400, 'target_malformed'],
    ['a backslash', { target: '/v1\\chat\\completions' }, 400, 'target_malformed'],
    ['a fragment', { target: '/v1/chat/completions#x' }, 400, 'target_malformed'],
    ['a lone question mark', { target: '/v1/chat/completions?' }, 400, 'target_malformed'],
    ['a lower-case escape in the query', { target: '/v1/chat/completions?a=%2f' }, 400, 'target_malformed'],
    ['an asterisk', { target: '*', method: 'OPTIONS', body: '' }, 400, 'target_malformed'],
    ['another case of the path', { target: '/V1/chat/completions' }, 404, 'route_unknown'],
    ['a slash behind the path', { target: '/v1/chat/completions/' }, 404, 'route_unknown'],
    [
      'a query that was not signed',
      { target: '/v1/chat/completions?a=b', signedPath: '/v1/chat/completions' },
      401,
      'signature_invalid',
    ],
    [
      'a path that was not signed',
      { target: '/v1/embeddings', signedPath: '/v1/chat/completions' },
      401,
      'signature_invalid',
    ],

    // Headers that two readers would read in two ways.
    ['two content types', { extra: ['Content-Type: text/plain'] }, 400, 'header_repeated'],
    [
      'two products',
      { extra: ['X-Sallyport-Product: product-a', 'X-Sallyport-Product: product-b'] },
      400,
      'header_repeated',
    ],
    ['two digests', { extra: ['Content-Digest: sha-256=:AAAA:'] }, 400, 'header_repeated'],
    ['two signatures', { extra: ['Signature: sp=:AAAA:'] }, 400, 'header_repeated'],
    ['two authorizations', { extra: ['Authorization: a', 'Authorization: b'] }, 400, 'header_repeated'],
    ['a product that was not signed', { extra: ['X-Sallyport-Product: product-a'] }, 401, 'signature_malformed'],
    ['a key for repeating that was not signed', { extra: ['Idempotency-Key: 1'] }, 401, 'signature_malformed'],
    ['two lengths', { extra: ['Content-Length: 3'] }, 400, 'request_malformed'],
    ['a length and chunks', { extra: ['Transfer-Encoding: chunked'] }, 400, 'request_malformed'],
    ['a folded header', { extra: ['X-A: b', ' c'] }, 400, 'request_malformed'],
    ['a space before the colon', { extra: ['X-A : b'] }, 400, 'request_malformed'],
    ['headers without end', { extra: [`X-A: ${'a'.repeat(20_000)}`] }, 431, 'headers_too_large'],

    // Bodies.
    ['a body on GET', { method: 'GET', target: '/v1/models' }, 400, 'body_unexpected'],
    ['no body on POST', { body: '' }, 400, 'body_missing'],
    ['an encoded body', { extra: ['Content-Encoding: gzip'] }, 415, 'body_encoded'],
    ['a body over the limit', () => ({ body: `{"a":"${'a'.repeat(70_000)}"}` }), 413, 'body_too_large'],
    ['a name twice', { body: '{"model":"gpt-4o","messages":[],"model":"gpt-5"}' }, 400, 'json_malformed'],
    [
      'a name twice, once in disguise',
      { body: '{"model":"gpt-4o","messages":[],"mod\\u0065l":"gpt-5"}' },
      400,
      'json_malformed',
    ],
    [
      'a name twice, deep inside',
      { body: '{"model":"gpt-4o","messages":[{"a":{"b":1,"b":2}}]}' },
      400,
      'json_malformed',
    ],
    ['__proto__', { body: '{"model":"gpt-4o","messages":[],"__proto__":{}}' }, 400, 'json_malformed'],
    ['65 levels', { body: deep(65) }, 400, 'json_malformed'],
    ['30,000 levels', { body: deep(30_000) }, 400, 'json_malformed'],
    ['a number without end', { body: '{"model":"gpt-4o","messages":[],"temperature":1e400}' }, 400, 'json_malformed'],
    ['a list', { body: '[]' }, 400, 'json_malformed'],
    ['half a body', { body: '{"model":"gpt-4o","messages":[' }, 400, 'json_malformed'],
    ['two bodies', { body: `${BODY}${BODY}` }, 400, 'json_malformed'],

    // Everything that never reaches the usual event of a server.
    ['an expectation that nobody knows', { extra: ['Expect: a-miracle'] }, 417, 'expectation_unsupported'],
    [
      'a switch to WebSocket',
      { method: 'GET', target: '/v1/models', body: '', extra: ['Upgrade: websocket', 'Connection: Upgrade'] },
      400,
      'upgrade_unsupported',
    ],
    [
      'CONNECT',
      () => `CONNECT ${world.authority} HTTP/1.1\r\nHost: ${world.authority}\r\n\r\n`,
      400,
      'upgrade_unsupported',
    ],
    ['the greeting of HTTP/2', () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'request_malformed'],
    ['the greeting of TLS', () => '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400, 'request_malformed'],
    ['a method that is not served', { method: 'PUT' }, 405, 'method_unsupported'],
  ];
  for (const [what, shape, status, code] of rows) {
    it(`refuses ${what} with ${status} ${code}, and nothing reaches the vendor`, async () => {
      const made = typeof shape === 'function' ? shape() : shape;
      const answer = await world.raw(typeof made === 'string' ? made : bytes(made));
      assert.equal(statusOf(answer), status, answer);
      if (code !== '') assert.match(answer, new RegExp(`"code":"${code}"`));
      assert.equal(world.vendor.requests.length, 0);
    });
  }

  it('gives leave to send a body only when everything that needs headers alone has passed', async () => {
    const good = await world.raw(bytes({ extra: ['Expect: 100-continue'] }));
    assert.match(good, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/);
    const bad = await world.raw(bytes({ extra: ['Expect: 100-continue', 'Idempotency-Key: 1'] }));
    assert.match(bad, /^HTTP\/1\.1 401 /);
  });

  it('does not serve a second request hidden behind a refused one', async () => {
    const hidden = bytes({});
    const outer = `POST /v1/chat/completions HTTP/1.1\r\nHost: ${world.authority}\r\nContent-Length: ${hidden.length}\r\n\r\n`;
    const answer = await world.raw(outer + hidden);
    assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1);
    assert.equal(world.vendor.requests.length, 0);
  });

  it('answers probes that call by address, and only those', async () => {
    for (const path of ['/', '/health', '/ready', '/liveness']) {
      assert.equal(
        statusOf(await world.raw(`GET ${path} HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nConnection: close\r\n\r\n`)),
        200,
        path,
      );
    }
    const other = await world.raw('GET /v1/models HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nConnection: close\r\n\r\n');
    assert.equal(statusOf(other), 421);
  });

  it('reads nothing of a body whose sender it does not know', async () => {
    const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: ${world.authority}\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n`;
    const answer = await world.raw(head);
    assert.match(answer, /^HTTP\/1\.1 401 .*connection: close.*"code":"signature_required"/is);
  });

  it('is still there afterwards, and the prototype of objects is as it was', async () => {
    assert.equal(statusOf(await world.raw(bytes({}))), 200);
    assert.deepEqual(Object.keys(Object.prototype), []);
  });
});

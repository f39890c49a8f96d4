import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import { readTarget, type WithTarget } from './target.ts';

// What Node's own parser makes of bytes on a socket, because that is what the stage is given.
async function arrive(head: string): Promise<WithTarget | ApiError> {
  const server = createServer({ requireHostHeader: false });
  for (const event of ['checkContinue', 'checkExpectation']) {
    server.on(event, (...exchange) => server.emit('request', ...exchange));
  }
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  try {
    socket.write(head, 'latin1');
    const [request] = (await once(server, 'request')) as [IncomingMessage];
    return readTarget({ request });
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error));
    return error;
  } finally {
    socket.destroy();
    server.closeAllConnections();
    server.close();
  }
}

function get(target: string, ...headers: string[]): Promise<WithTarget | ApiError> {
  return arrive([`GET ${target} HTTP/1.1`, 'Host: h', ...headers, '', ''].join('\r\n'));
}

function post(...headers: string[]): Promise<WithTarget | ApiError> {
  return arrive(['POST /v1/x HTTP/1.1', 'Host: h', ...headers, '', ''].join('\r\n'));
}

const TARGETS: [target: string, path: string | undefined, query?: string][] = [
  ['/', '/', ''],
  ['/v1/chat/completions', '/v1/chat/completions', ''],
  ["/a-b_c.d~e:f@g!h$i&j'k(l)m*n+o,p;q=r", "/a-b_c.d~e:f@g!h$i&j'k(l)m*n+o,p;q=r", ''],
  ['/v1/', '/v1/', ''],
  ['/...', '/...', ''],
  ['/.well-known', '/.well-known', ''],
  ['/a..b', '/a..b', ''],
  ['/x?a=1', '/x', '?a=1'],
  ['/x?a=%20%2F&b[]=/?', '/x', '?a=%20%2F&b[]=/?'],
  ['/x??', '/x', '??'],
  ['/x?//..', '/x', '?//..'],
  ['//', undefined],
  ['//evil.example/v1', undefined],
  ['/v1//models', undefined],
  ['/.', undefined],
  ['/..', undefined],
  ['/v1/./models', undefined],
  ['/v1/../models', undefined],
  ['/v1/models/..', undefined],
  ['/v1/models/.', undefined],
  ['/%2e%2e/x', undefined],
  ['/v1/%63hat', undefined],
  ['/v1%2Fmodels', undefined],
  ['/x%', undefined],
  ['/v1/models#frag', undefined],
  ['/v1\\models', undefined],
  ['/v1/mod"els', undefined],
  ['/v1/{product}', undefined],
  ['/v1/a|b', undefined],
  ['/x?', undefined],
  ['/x?a=%2f', undefined],
  ['/x?a=%', undefined],
  ['/x?a=%2', undefined],
  ['/x?a=%GG', undefined],
  ['/x?a="', undefined],
  ['/x?a#b', undefined],
  ['/x?a\\b', undefined],
  ['http://h/v1/models', undefined],
  ['https://evil.example/v1/models', undefined],
];

const HEADERS: [refused: ErrorCode | undefined, headers: string[]][] = [
  [undefined, ['Accept: a', 'Accept: b']],
  [undefined, ['X-Forwarded-For: 1.1.1.1', 'X-Forwarded-For: 2.2.2.2']],
  [undefined, ['X-Sallyport-Product: a']],
  ['header_repeated', ['X-Sallyport-Product: a', 'x-sallyport-product: a']],
  ['header_repeated', ['X-Sallyport-Anything-New: a', 'X-SALLYPORT-ANYTHING-NEW: b']],
  ...[
    'Host',
    'Authorization',
    'Content-Type',
    'Content-Digest',
    'Content-Encoding',
    'Idempotency-Key',
    'Signature',
    'Signature-Input',
  ].map((name): [ErrorCode, string[]] => [
    'header_repeated',
    name === 'Host' ? ['hOST: h'] : [`${name}: a`, `${name.toLowerCase()}: a`],
  ]),
];

describe('the request target', () => {
  for (const [target, path, query] of TARGETS) {
    it(`is ${path === undefined ? 'refused' : 'read'}: ${target}`, async () => {
      const read = await get(target);
      if (path === undefined) {
        assert.ok(read instanceof ApiError, 'it was accepted');
        assert.deepEqual([read.code, read.status], ['target_malformed', 400]);
      } else {
        assert.ok(!(read instanceof ApiError), String(read));
        assert.deepEqual([read.method, read.path, read.query], ['GET', path, query]);
      }
    });
  }

  for (const [target, why] of [
    ['http://h/v1/models', /without scheme or host/],
    ['/v1/%63hat', /percent-encoding/],
    ['//v1', /an empty segment/],
    ['/v1/../x', /a dot segment/],
    ['/x?', /ends in a question mark/],
    ['/x?a=%2f', /must be percent-encoded/],
  ] as const) {
    it(`is refused with the reason: ${target}`, async () => {
      const read = await get(target);
      assert.ok(read instanceof ApiError);
      assert.match(read.message, why);
    });
  }

  it('is refused without a slash: OPTIONS *', async () => {
    const read = await arrive('OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n');
    assert.ok(read instanceof ApiError && read.code === 'target_malformed');
  });
});

describe('the header fields', () => {
  for (const [refused, headers] of HEADERS) {
    it(`are ${refused === undefined ? 'read' : 'refused'} with ${headers.join(' and ')}`, async () => {
      const read = await get('/', ...headers);
      assert.equal(read instanceof ApiError ? read.code : undefined, refused);
    });
  }

  it('are kept by their lower-case names, those sent twice joined in their order', async () => {
    const read = await get('/', 'ACCEPT: a', 'X-Other: One', 'Accept: b');
    assert.ok(!(read instanceof ApiError));
    assert.deepEqual(Object.fromEntries(read.fields), { host: 'h', accept: 'a, b', 'x-other': 'One' });
  });

  it('are not those that every object has', async () => {
    const read = await get('/');
    assert.ok(!(read instanceof ApiError));
    assert.equal(read.fields.get('constructor'), undefined);
  });
});

describe('the version of HTTP', () => {
  for (const [version, refused] of [
    ['1.1', undefined],
    ['1.0', undefined],
    ['0.9', 'http_version_unsupported'],
    ['2.0', 'http_version_unsupported'],
  ] as const) {
    it(`may ${refused === undefined ? '' : 'not '}be ${version}`, async () => {
      const read = await arrive(`GET / HTTP/${version}\r\nHost: h\r\n\r\n`);
      assert.equal(read instanceof ApiError ? read.code : undefined, refused);
    });
  }
});

const FRAMINGS: [refused: ErrorCode | undefined, ...headers: string[]][] = [
  [undefined, 'Content-Length: 10'],
  ['request_malformed', 'Content-Length: 010'],
  ['request_malformed', 'Content-Length: 00'],
  [undefined, 'Transfer-Encoding: Chunked'],
  ['transfer_coding_unsupported', 'Transfer-Encoding: gzip, chunked'],
  ['transfer_coding_unsupported', 'Transfer-Encoding: identity, chunked'],
  ['transfer_coding_unsupported', 'Transfer-Encoding: , chunked'],
  ['transfer_coding_unsupported', 'Transfer-Encoding: gzip', 'Transfer-Encoding: chunked'],
  [undefined, 'Expect: 100-Continue'],
  ['expectation_unsupported', 'Expect: 100-continue-not'],
  ['expectation_unsupported', 'Expect: 100-continue, a-miracle'],
  ['expectation_unsupported', 'Expect: 100-continue', 'Expect: a-miracle'],
  ['expectation_unsupported', 'Expect:'],
  [undefined, 'Connection: keep-alive, X-Anything'],
  ['connection_malformed', 'Connection: close, Signature'],
  ['connection_malformed', 'Connection: close', 'Connection: hOST'],
  ['connection_malformed', 'Connection: X-Sallyport-Product'],
  ['upgrade_unsupported', 'Upgrade: h2c'],
];

describe('what frames a request', () => {
  for (const [refused, ...headers] of FRAMINGS) {
    it(`is ${refused === undefined ? 'taken' : `refused as ${refused}`}: ${headers.join(' and ')}`, async () => {
      const read = await post(...headers);
      assert.equal(read instanceof ApiError ? read.code : undefined, refused);
      if (read instanceof ApiError) assert.equal(read.headers['connection'], 'close');
    });
  }

  it('has no chunks and no expectations in HTTP/1.0', async () => {
    const old = (header: string) => arrive(`POST / HTTP/1.0\r\n${header}\r\n\r\n`);
    const chunked = await old('Transfer-Encoding: chunked');
    assert.ok(chunked instanceof ApiError && chunked.code === 'request_malformed');
    assert.ok(!((await old('Expect: a-miracle')) instanceof ApiError));
  });

  it('has a Host in HTTP/1.1, and need not have one in HTTP/1.0', async () => {
    const without = await arrive('GET / HTTP/1.1\r\n\r\n');
    assert.ok(without instanceof ApiError && without.code === 'request_malformed');
    assert.ok(!((await arrive('GET / HTTP/1.0\r\n\r\n')) instanceof ApiError));
  });
});

describe('a body', () => {
  for (const [hasContent, headers] of [
    [false, []],
    [false, ['Content-Length: 0']],
    [true, ['Content-Length: 1']],
    [true, ['Transfer-Encoding: chunked']],
  ] as const) {
    it(`is ${hasContent ? '' : 'not '}announced by ${headers.join() || 'nothing'}`, async () => {
      const read = await post(...headers);
      assert.ok(!(read instanceof ApiError));
      assert.equal(read.hasContent, hasContent);
    });
  }

  for (const method of ['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE']) {
    it(`is refused with ${method}`, async () => {
      for (const framing of ['Content-Length: 2', 'Transfer-Encoding: chunked']) {
        const read = await arrive(`${method} / HTTP/1.1\r\nHost: h\r\n${framing}\r\n\r\n`);
        assert.ok(read instanceof ApiError && read.code === 'body_unexpected', framing);
      }
      const without = await arrive(`${method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n`);
      assert.ok(!(without instanceof ApiError));
    });
  }
});

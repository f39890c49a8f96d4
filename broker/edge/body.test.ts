import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { contentDigest } from '@sallyport/protocol/content-digest.ts';
import { ApiError, type ErrorCode } from '@sallyport/protocol/errors.ts';
import { checkDigest, readBody, readJson } from './body.ts';
import { readTarget } from './target.ts';

const LIMIT = 1000;
const LIMITS = { bytes: LIMIT, deadlineMs: 60_000 };

describe('the body of a request', () => {
  let server: Server;
  let socket: Socket;

  beforeEach(async () => {
    server = createServer();
    server.on('checkContinue', (...exchange) => server.emit('request', ...exchange));
    server.on('clientError', (_, broken) => broken.destroy());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('error', () => {});
  });
  afterEach(() => {
    socket.destroy();
    server.closeAllConnections();
    server.close();
  });

  async function arrival(headers: string[]) {
    socket.write(['POST / HTTP/1.1', 'Host: h', ...headers, '', ''].join('\r\n'));
    const [request, response] = (await once(server, 'request')) as [IncomingMessage, ServerResponse];
    return { request, response, ...readTarget({ request }) };
  }

  async function receive(headers: string[], ...pieces: string[]): Promise<Buffer | ApiError> {
    const exchange = await arrival(headers);
    const read = readBody(LIMITS)(exchange).then(
      ({ received }) => received,
      (error: unknown) => {
        assert.ok(error instanceof ApiError, String(error));
        return error;
      },
    );
    for (const piece of pieces) socket.write(piece);
    return read;
  }

  const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

  const TABLE: [what: string, headers: string[], pieces: string[], is: string | ErrorCode][] = [
    ['of a known length', ['Content-Length: 5'], ['hello'], 'hello'],
    ['in pieces', ['Content-Length: 5'], ['he', 'llo'], 'hello'],
    ['in chunks', ['Transfer-Encoding: chunked'], [chunk('hel'), chunk('lo'), '0\r\n\r\n'], 'hello'],
    ['of no chunk', ['Transfer-Encoding: chunked'], ['0\r\n\r\n'], ''],
    ['as long as allowed', [`Content-Length: ${LIMIT}`], ['x'.repeat(LIMIT)], 'x'.repeat(LIMIT)],
    [
      'as long as allowed, in chunks',
      ['Transfer-Encoding: chunked'],
      [chunk('x'.repeat(LIMIT)), '0\r\n\r\n'],
      'x'.repeat(LIMIT),
    ],
    [
      'in chunks of one byte',
      ['Transfer-Encoding: chunked'],
      ['1\r\nx\r\n'.repeat(LIMIT), '0\r\n\r\n'],
      'x'.repeat(LIMIT),
    ],
    [
      'longer by one, in chunks of one byte',
      ['Transfer-Encoding: chunked'],
      ['1\r\nx\r\n'.repeat(LIMIT + 1)],
      'body_too_large',
    ],
    ['longer by one, as announced', [`Content-Length: ${LIMIT + 1}`], [], 'body_too_large'],
    [
      'longer by one, unannounced',
      ['Transfer-Encoding: chunked'],
      [chunk('x'.repeat(LIMIT)), chunk('x')],
      'body_too_large',
    ],
    ['without end', ['Transfer-Encoding: chunked'], Array<string>(50).fill(chunk('x'.repeat(100))), 'body_too_large'],
    ['that is none', [], [], 'body_missing'],
    ['of length nought', ['Content-Length: 0'], [], 'body_missing'],
    ['in gzip', ['Content-Length: 5', 'Content-Encoding: gzip'], ['hello'], 'body_encoded'],
    [
      'in identity, which is an encoding too',
      ['Content-Length: 5', 'Content-Encoding: identity'],
      ['hello'],
      'body_encoded',
    ],
    ['in no encoding, named', ['Content-Length: 5', 'Content-Encoding:'], ['hello'], 'body_encoded'],
  ];
  for (const [what, headers, pieces, is] of TABLE) {
    it(`${what} is ${is.startsWith('body_') ? `refused as ${is}` : 'read'}`, async () => {
      const read = await receive(headers, ...pieces);
      assert.equal(read instanceof ApiError ? read.code : read.toString(), is);
    });
  }

  it('is no more than its announced length: what follows is the next request', async () => {
    const read = await receive(['Content-Length: 5'], 'helloGET /next HTTP/1.1\r\nHost: h\r\n\r\n');
    assert.equal(String(read), 'hello');
  });

  it('is incomplete when the caller leaves in the middle', async () => {
    const exchange = await arrival(['Content-Length: 5']);
    const read = readBody(LIMITS)(exchange);
    socket.write('he');
    socket.destroy();
    await assert.rejects(read, { code: 'body_incomplete', status: 400 });
  });

  it('is incomplete, and not waited for, when the caller had left before it was read', async () => {
    const exchange = await arrival(['Content-Length: 5']);
    socket.destroy();
    await once(exchange.request, 'close').catch(() => {});
    const waited = Symbol('still waiting');
    const read = readBody(LIMITS)(exchange);
    const end = await Promise.race([read.catch((error: unknown) => error), setTimeout(300, waited)]);
    assert.notEqual(end, waited, 'it waits for ever');
    assert.ok(end instanceof ApiError && end.code === 'body_incomplete');
  });

  it('is put together in its order, however it was cut', async () => {
    const limits = { bytes: 1_000_000, deadlineMs: 60_000 };
    const pieces = [70_000, 1, 30_000, 4_000, 200_000, 2, 1, ...Array<number>(40).fill(3_000), 5_000, 1].map(
      (length, at) => String(at % 10).repeat(length),
    );
    const exchange = await arrival(['Transfer-Encoding: chunked']);
    const read = readBody(limits)(exchange);
    for (const piece of pieces) socket.write(chunk(piece));
    socket.write('0\r\n\r\n');
    assert.ok((await read).received.equals(Buffer.from(pieces.join(''))));
  });

  it('is not taken in crumbs without end', async () => {
    const limits = { bytes: 1_000_000, deadlineMs: 60_000 };
    const exchange = await arrival(['Transfer-Encoding: chunked']);
    const read = readBody(limits)(exchange);
    socket.write('1\r\nx\r\n'.repeat(100_001));
    await assert.rejects(read, { code: 'body_crumbled', status: 400 });
  });

  it('is not waited for longer than its time, however busily it trickles', async () => {
    const exchange = await arrival(['Content-Length: 900']);
    const began = performance.now();
    const read = readBody({ bytes: LIMIT, deadlineMs: 300 })(exchange);
    const timer = setInterval(() => socket.write('x'), 20);
    await assert.rejects(read, { code: 'request_timeout', status: 408 }).finally(() => clearInterval(timer));
    const took = performance.now() - began;
    assert.ok(took > 290 && took < 2000, `${took} ms`);
  });

  it('is given no leave to come in HTTP/1.0, which knows none', async () => {
    const headers = { request: { httpVersion: '1.0', destroyed: true }, fields: new Map([['expect', '100-continue']]) };
    const exchange = { ...headers, hasContent: true, response: { writeContinue: () => assert.fail('it was given') } };
    await assert.rejects(readBody(LIMITS)(exchange as never), { code: 'body_incomplete' });
  });

  it('is given leave to come only when it can be taken', async () => {
    const exchange = await arrival(['Content-Length: 5', 'Expect: 100-continue']);
    const read = readBody(LIMITS)(exchange);
    const [leave] = (await once(socket, 'data')) as [Buffer];
    assert.equal(leave.toString(), 'HTTP/1.1 100 Continue\r\n\r\n');
    socket.write('hello');
    assert.equal((await read).received.toString(), 'hello');
  });

  it('is given no leave to come when it is too long', async () => {
    const exchange = await arrival([`Content-Length: ${LIMIT + 1}`, 'Expect: 100-continue']);
    let heard = '';
    socket.on('data', (data: Buffer) => (heard += data.toString()));
    await assert.rejects(readBody(LIMITS)(exchange), { code: 'body_too_large', status: 413 });
    exchange.response.end();
    await once(socket, 'data');
    assert.doesNotMatch(heard, /100 Continue/);
  });
});

describe('the digest of a body', () => {
  const received = Buffer.from('{"a":1}');
  for (const [digest, isRight] of [
    [contentDigest(received), true],
    [undefined, true], // then nothing was signed; a signature of a body without one is refused before
    [contentDigest(Buffer.from('{"a":2}')), false],
    ['', false],
    ['sha-256=::', false],
  ] as const) {
    it(`${isRight ? 'may be' : 'must not be'} ${digest ?? 'absent'}`, () => {
      const check = () =>
        checkDigest({ fields: new Map(digest === undefined ? [] : [['content-digest', digest]]), received });
      if (isRight) assert.equal(check().body, received);
      else assert.throws(check, { code: 'digest_mismatch', status: 401 });
    });
  }
});

describe('a JSON body', () => {
  for (const [type, isTaken] of [
    ['application/json', true],
    ['Application/JSON', true],
    ['application/json; charset=utf-8', true],
    ['application/json;charset="UTF-8"', true],
    ['application/json ', true],
    ['application/json; charset=latin1', false],
    ['application/json; charset=utf-8; x=y', false],
    ['application/jsonx', false],
    ['text/json', false],
    ['text/plain', false],
    ['application/json, text/plain', false],
    ['', false],
    [undefined, false],
  ] as const) {
    it(`is ${isTaken ? 'read' : 'refused'} as ${JSON.stringify(type)}`, () => {
      const fields = new Map(type === undefined ? [] : [['content-type', type]]);
      const read = () => readJson({ fields, body: Buffer.from('{"model":"m"}') }).json.string('model');
      if (isTaken) assert.equal(read(), 'm');
      else assert.throws(read, { code: 'content_type_unsupported', status: 415 });
    });
  }

  it('passes the gate or nobody', () => {
    const fields = new Map([['content-type', 'application/json']]);
    assert.throws(() => readJson({ fields, body: Buffer.from('{"a":1,"a":2}') }), { code: 'json_malformed' });
  });
});

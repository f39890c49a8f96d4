import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { HARMLESS_REQUESTS, REFUSED_REQUESTS } from './hostile-requests.ts';
import { BODY, CHUNKED, converse, inChunks, pour, signedBytes, statusesIn, write } from './raw-requests.ts';
import { answerOk, openWorld, type World } from './world.ts';

// By hand over a raw socket: no client library sends what a hostile caller would.

describe('a request over a raw socket', () => {
  let world: World;
  before(async () => void (world = await openWorld()));
  after(() => world.close());
  beforeEach(() => void (world.vendor.requests.length = 0));

  it('that is rightly written reaches the vendor: what follows is refused for its own reason', async () => {
    assert.deepEqual(statusesIn(await converse(world.port, signedBytes(world.authority))), [200]);
    assert.deepEqual(
      world.vendor.requests.map(({ body }) => body),
      [BODY],
    );
  });

  for (const [what, shape, status, code] of REFUSED_REQUESTS) {
    it(`is refused with ${status} ${code} for ${what}`, async () => {
      const said = await converse(world.port, write(world.authority, shape));
      assert.deepEqual(statusesIn(said), [status], said);
      assert.match(said, new RegExp(`"code":"${code}"`));
      assert.match(said, /\r\nconnection: close\r\n/i);
      assert.equal(world.vendor.requests.length, 0);
      assert.equal((await world.ask({ path: '/liveness', signed: false })).status, 200);
    });
  }

  for (const [what, shape, because] of HARMLESS_REQUESTS) {
    it(`is not harmed by ${what}: ${because}`, async () => {
      assert.deepEqual(statusesIn(await converse(world.port, write(world.authority, shape))), [200]);
      assert.deepEqual(
        world.vendor.requests.map(({ path, body }) => [path, body]),
        [['/v1/chat/completions', BODY]],
      );
    });
  }

  it('gets leave to send a body only when everything that needs headers alone has passed', async () => {
    const good = await converse(world.port, signedBytes(world.authority, { extra: ['Expect: 100-continue'] }));
    assert.deepEqual(statusesIn(good), [100, 200]);
    for (const shape of [
      { extra: ['Expect: 100-continue', 'Idempotency-Key: 1'] },
      { extra: ['Expect: 100-continue', 'Content-Encoding: gzip'] },
      { framing: ['Content-Length: 99999999', 'Expect: 100-continue'] },
      { version: 'HTTP/1.0', extra: ['Expect: 100-continue'] },
    ]) {
      assert.equal(statusesIn(await converse(world.port, signedBytes(world.authority, shape))).length, 1);
    }
  });

  for (const [what, first] of [
    ['cannot be read', 'GARBAGE\r\n\r\n'],
    ['is refused for its target', 'GET //x HTTP/1.1\r\nHost: h\r\n\r\n'],
    ['is not let in', 'POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello'],
    [
      'is not let in, with half a body',
      'POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell',
    ],
    ['ends the connection', 'GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n'],
    ['wants to switch', 'GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n'],
    ['wants a tunnel', 'CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n'],
  ] as const) {
    it(`is not heard behind one that ${what}`, async () => {
      const said = await converse(world.port, Buffer.concat([Buffer.from(first), signedBytes(world.authority)]));
      assert.equal(statusesIn(said).length, 1, said);
      assert.equal(world.vendor.requests.length, 0);
    });
  }

  it('is not heard when it hides in the body of a refused one', async () => {
    const hidden = signedBytes(world.authority);
    for (const [framing, wire] of [
      [`Content-Length: ${hidden.length}`, hidden],
      [CHUNKED[0], Buffer.from(inChunks(hidden.toString('latin1')), 'latin1')],
    ] as const) {
      const outer = `POST /v1/chat/completions HTTP/1.1\r\nHost: ${world.authority}\r\n${framing}\r\n\r\n`;
      const said = await converse(world.port, Buffer.concat([Buffer.from(outer), wire]));
      assert.deepEqual(statusesIn(said), [401]);
      assert.equal(world.vendor.requests.length, 0);
    }
  });

  it('is heard in its turn behind one that was answered, and no refusal stands inside an answer', async () => {
    const kept = signedBytes(world.authority).toString('latin1').replace('Connection: close', 'Connection: keep-alive');
    const two = await converse(world.port, Buffer.concat([Buffer.from(kept), signedBytes(world.authority)]));
    assert.deepEqual(statusesIn(two), [200, 200]);
    assert.equal(world.vendor.requests.length, 2);
  });

  it('that cannot be read waits for the end of the stream in front of it', async () => {
    world.vendor.answerWith((_, body, response) => {
      assert.ok(body.includes('"stream":true'));
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: {"choices":[]}\n\n');
      setTimeout(() => response.end('data: [DONE]\n\n'), 200);
    });
    try {
      const stream = signedBytes(world.authority, { body: BODY.replace('{', '{"stream":true,') });
      const kept = stream.toString('latin1').replace('Connection: close', 'Connection: keep-alive');
      const said = await converse(world.port, Buffer.from(`${kept}GARBAGE\r\n\r\n`, 'latin1'));
      assert.match(said, /^HTTP\/1\.1 200 OK[^]*\[DONE\]\n\n\r\n0\r\n\r\nHTTP\/1\.1 400 Bad Request\r\n/);
    } finally {
      world.vendor.answerWith(answerOk);
    }
  });

  it('may be a probe that calls by address, and those alone', async () => {
    const get = (target: string) =>
      Buffer.from(`GET ${target} HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nConnection: close\r\n\r\n`);
    for (const probe of ['/', '/health', '/ready', '/liveness']) {
      assert.deepEqual(statusesIn(await converse(world.port, get(probe))), [200], probe);
    }
    assert.deepEqual(statusesIn(await converse(world.port, get('/v1/models'))), [421]);
  });

  it('is refused before its body is read, when nobody knows its sender', async () => {
    const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: ${world.authority}\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n`;
    const said = await converse(world.port, Buffer.from(head));
    assert.match(said, /^HTTP\/1\.1 401 [^]*connection: close[^]*"code":"signature_required"/i);
  });
});

describe('a request that is refused while it is still being sent', () => {
  // A process of its own, for what is lost is lost between two.
  let world: World;
  before(async () => void (world = await openWorld({ apart: true })));
  after(() => world.close());

  const MiB = 2 ** 20;
  for (const [what, head, status] of [
    ['too long', () => signedBytes(world.authority, { framing: [`Content-Length: ${1024 * MiB}`], wire: '' }), 413],
    ['too long, in chunks', () => `${signedBytes(world.authority, { framing: CHUNKED, wire: '' })}40000000\r\n`, 413],
    [
      'of a sender nobody knows',
      () => `POST / HTTP/1.1\r\nHost: ${world.authority}\r\nContent-Length: 99999999\r\n\r\n`,
      405,
    ],
    ['with headers without end', () => `GET / HTTP/1.1\r\nHost: ${world.authority}\r\nX: `, 431],
    ['that cannot be read', () => 'GARBAGE\r\n\r\n', 400],
    ['for a tunnel', () => 'CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n', 400],
  ] as const) {
    it(`is told so every time: one ${what}`, async () => {
      for (let i = 0; i < 50; i++) {
        const { said } = await pour(world.port, Buffer.from(head()), Buffer.alloc(MiB / 16, 'x'), 100 * MiB);
        assert.deepEqual(statusesIn(said), [status]);
      }
    });

    it(`is told so when its sender reads nothing before all is sent: one ${what}`, async () => {
      const all = Buffer.concat([Buffer.from(head()), Buffer.alloc(32 * MiB, 'x')]);
      assert.deepEqual(statusesIn(await sendThenRead(world.port, all)), [status]);
    });
  }
});

function sendThenRead(port: number, bytes: Buffer): Promise<string> {
  return new Promise((resolve) => {
    let said = '';
    const socket = connect({ port, host: '127.0.0.1' }).pause();
    socket.write(bytes, () => socket.resume());
    socket.on('data', (data) => (said += data.toString('latin1')));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(said));
  });
}

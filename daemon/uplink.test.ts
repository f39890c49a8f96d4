import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, createServer as createNetServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { hmacKey } from '@sallyport/protocol/keys.ts';
import { isInWindow, isSignedBy, readSignature, type RequestView, type Tag } from '@sallyport/protocol/profile.ts';
import { openUplink, readBrokerUrl, type Incoming, type OpenUplink, type UplinkSettings } from './uplink.ts';

const KEY = { keyid: 'spk_0123456789abcdefghjkmnpqrs', ...hmacKey(Buffer.alloc(32, 7)) };

describe('the uplink', () => {
  const closing: (() => void)[] = [];
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-uplink-'));
  });
  afterEach(() => {
    for (const close of closing.splice(0)) close();
  });
  after(() => rmSync(folder, { recursive: true }));

  async function listen<Kind extends Server | ReturnType<typeof createNetServer>>(server: Kind): Promise<number> {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const sockets = new Set<Socket>();
    server.on('connection', (socket: Socket) => sockets.add(socket.on('error', () => {})));
    closing.push(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return (server.address() as AddressInfo).port;
  }
  const serve = async (answer: RequestListener) => `http://127.0.0.1:${await listen(createServer(answer))}`;

  function open(brokerUrl: string, more: Partial<UplinkSettings> = {}): OpenUplink {
    const uplink = openUplink({
      brokerUrl,
      signingKey: () => Promise.resolve(KEY),
      installId: 'inst_1',
      bootId: 'boot_1',
      now: Date.now,
      elapsedMs: () => performance.now(),
      ...more,
    });
    closing.push(() => uplink.close());
    return uplink;
  }

  it('signs what it sends as the broker reads it, with the installation and the boot', async () => {
    const seen: { request: IncomingMessage; text: string }[] = [];
    const url = await serve(async (request, response) => {
      seen.push({ request, text: Buffer.concat(await request.toArray()).toString() });
      response.writeHead(200, { 'x-Twice': ['1', '2'] }).end('good');
    });
    const fields = { 'idempotency-key': 'k1', accept: 'text/event-stream' };
    const body = { bytes: Buffer.from('{"a":1}') };
    const asked = {
      ...get('/v1/x', '?b=%2F'),
      method: 'POST',
      fields: { ...fields, 'content-type': 'application/json' },
      body,
    };
    const incoming = await open(url).send(asked);
    assert.deepEqual([incoming.status, await textOf(incoming)], [200, 'good']);
    assert.deepEqual(
      incoming.headers.filter((_, at) => incoming.headers[at - (at % 2)] === 'x-Twice'),
      ['x-Twice', '1', 'x-Twice', '2'],
      'raw, as they came',
    );
    const { request, text } = seen[0]!;
    assert.equal(text, '{"a":1}');
    assert.equal(request.headers['content-length'], '7');
    assert.equal(request.headers['x-sallyport-install'], 'inst_1');
    assert.equal(request.headers['x-sallyport-boot'], 'boot_1');
    assert.equal(request.headers['transfer-encoding'], undefined);
    assertSigned(request, 'sallyport-v1');
  });

  it('signs for the daemon itself, and sends no body, when it is asked to', async () => {
    const seen: IncomingMessage[] = [];
    const url = await serve((request, response) => void (seen.push(request), response.end()));
    await drain(await open(url).send({ ...get('/v1/whoami'), tag: 'sallyport-device-v1' }));
    assertSigned(seen[0]!, 'sallyport-device-v1');
    assert.equal(seen[0]!.headers['content-length'], undefined);
    // Unsigned is for enrolment alone: it does not even name the installation.
    await drain(await open(url).sendUnsigned(get('/v1/enroll/challenge')));
    const names = Object.keys(seen[1]!.headers);
    assert.deepEqual(
      names.filter((name) => name.startsWith('x-sallyport-') || name.startsWith('signature')),
      [],
    );
  });

  it('sends a file by the digest that it was given, and not a byte that came later', async () => {
    const seen: { request: IncomingMessage; text: string }[] = [];
    const broken: Error[] = [];
    const server = createServer(async (request, response) => {
      seen.push({ request, text: Buffer.concat(await request.toArray()).toString() });
      response.end();
    }).on('clientError', (error) => void broken.push(error));
    const url = `http://127.0.0.1:${await listen(server)}`;
    const file = join(folder, 'upload');
    writeFileSync(file, 'the whole, and more');
    const digest = `sha-256=:${createHash('sha256').update('the whole').digest('base64')}:`;
    const asked = { ...get('/v1/files'), method: 'POST', fields: { 'content-type': 'application/pdf' } };
    await drain(await open(url).send({ ...asked, body: { file, length: 9, digest } }));
    assert.equal(seen[0]!.text, 'the whole');
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual(broken, [], 'nothing stands behind it on the connection');
    assert.equal(seen[0]!.request.headers['content-digest'], digest);
    assertSigned(seen[0]!.request, 'sallyport-v1');
    await assert.rejects(open(url).send({ ...asked, body: { file, length: 0, digest } }), TypeError);
    await assert.rejects(open(url).send({ ...asked, body: { file: join(folder, 'none'), length: 9, digest } }));
  });

  it('uses one connection again and again', async () => {
    const ports = new Set<number | undefined>();
    const url = await serve((request, response) => void (ports.add(request.socket.remotePort), response.end()));
    const uplink = open(url);
    for (let count = 0; count < 5; count++) await drain(await uplink.send(get('/')));
    assert.equal(ports.size, 1);
  });

  it('uses no connection from before a sleep', async () => {
    const ports = new Set<number | undefined>();
    let sleptMs = 0;
    const url = await serve((request, response) => void (ports.add(request.socket.remotePort), response.end()));
    const uplink = open(url, { now: () => Date.now() + sleptMs });
    await drain(await uplink.send(get('/')));
    sleptMs = 60_000;
    await drain(await uplink.send(get('/')));
    assert.equal(ports.size, 2);
  });

  describe('when the broker says that the time is wrong', () => {
    const HOUR = 3_600_000;
    const windowed = (brokerAheadMs: number, seen: number[]): RequestListener => {
      return (request, response) => {
        const now = Date.now() + brokerAheadMs;
        const read = readSignature(viewOf(request), 'sallyport-v1');
        seen.push(read.created);
        if (isInWindow(read, Math.floor(now / 1000))) return void response.end('good');
        response.writeHead(401, { 'x-sallyport-time': now }).end('{"error":{"code":"signature_window"}}');
      };
    };

    for (const hours of [-23, -1, 1, 23]) {
      it(`signs again, once, and knows it from then on: ${hours} h`, async () => {
        const seen: number[] = [];
        const uplink = open(await serve(windowed(hours * HOUR, seen)));
        for (let count = 0; count < 3; count++) assert.equal(await textOf(await uplink.send(get('/'))), 'good');
        assert.equal(seen.length, 4);
        assert.ok(Math.abs(uplink.offsetMs - hours * HOUR) < 2000);
      });
    }

    it('hands the refusal on, whole, when it is more than a day', async () => {
      const seen: number[] = [];
      const uplink = open(await serve(windowed(25 * HOUR, seen)));
      const incoming = await uplink.send(get('/'));
      assert.deepEqual([incoming.status, await textOf(incoming)], [401, '{"error":{"code":"signature_window"}}']);
      assert.deepEqual([seen.length, uplink.offsetMs], [1, 0]);
    });

    it('reads the refusal to its end, so that its connection is free again', async () => {
      const finished = Promise.withResolvers<void>();
      let asked = 0;
      const url = await serve((_, response) => {
        if (++asked > 1) return void response.end();
        response.on('finish', finished.resolve).writeHead(401, { 'x-sallyport-time': Date.now() + HOUR });
        response.end(Buffer.alloc(8_000_000));
      });
      await drain(await open(url).send(get('/')));
      await finished.promise;
    });

    it('hands the second refusal on, and does not try for ever', async () => {
      let asked = 0;
      const url = await serve((_, response) => {
        asked++;
        response.writeHead(401, { 'x-sallyport-time': Date.now() + HOUR }).end('no');
      });
      const incoming = await open(url).send(get('/'));
      assert.deepEqual([incoming.status, await textOf(incoming), asked], [401, 'no', 2]);
    });

    for (const [what, status, time] of [
      ['another refusal without the time', 401, undefined],
      ['a success with a time', 200, String(Date.now() + HOUR)],
      ['an error with a time', 503, String(Date.now() + HOUR)],
    ] as const) {
      it(`sends once: ${what}`, async () => {
        let asked = 0;
        const url = await serve((_, response) => {
          asked++;
          response.writeHead(status, time === undefined ? {} : { 'x-sallyport-time': time }).end();
        });
        const uplink = open(url);
        await drain(await uplink.send(get('/')));
        assert.deepEqual([asked, uplink.offsetMs], [1, 0]);
      });
    }
  });

  describe('tells in one sentence what went wrong, and whether anything was sent:', () => {
    type Expected = { code: string; sent: boolean };
    async function failure(sending: Promise<Incoming>, { code, sent }: Expected): Promise<string> {
      const error = await sending.then(
        () => assert.fail('it was answered'),
        (thrown: Error & Expected) => thrown,
      );
      assert.deepEqual([error.name, error.code, error.sent], ['UplinkError', code, sent], error.stack);
      assert.match(error.message, /^[A-Z][^\n]+\.$/);
      return error.message;
    }

    it('nobody listens', async () => {
      const port = await listen(createNetServer());
      closing.splice(0).forEach((close) => close());
      await failure(open(`http://127.0.0.1:${port}`).send(get('/')), { code: 'broker_unreachable', sent: false });
    });

    it('the name is not known', async () => {
      const sending = open('https://broker.invalid').send(get('/'));
      await failure(sending, { code: 'broker_unreachable', sent: false });
    });

    it('TLS is never answered', async () => {
      const port = await listen(createNetServer());
      const sending = open(`https://127.0.0.1:${port}`, { connectMs: 100 }).send(get('/'));
      await failure(sending, { code: 'broker_timeout', sent: false });
    });

    it('it hangs up', async () => {
      const url = await serve((request) => request.socket.destroy());
      await failure(open(url).send(get('/')), { code: 'broker_unreachable', sent: true });
    });

    it('it speaks something else', async () => {
      const port = await listen(createNetServer((socket) => socket.end('220 mail.example.com ESMTP\r\n')));
      await failure(open(`http://127.0.0.1:${port}`).send(get('/')), { code: 'broker_garbled', sent: true });
      await failure(open(`https://127.0.0.1:${port}`).send(get('/')), { code: 'broker_tls', sent: false });
    });

    it('it sends headers without end', async () => {
      const url = await serve((_, response) => response.writeHead(200, { long: 'x'.repeat(40_000) }).end());
      await failure(open(url).send(get('/')), { code: 'broker_garbled', sent: true });
    });

    it('it sends elsewhere, and nobody goes there', async () => {
      let visits = 0;
      const elsewhere = await serve((_, response) => void (visits++, response.end()));
      for (const status of [301, 302, 303, 307, 308]) {
        const url = await serve((_, response) => response.writeHead(status, { location: elsewhere }).end());
        await failure(open(url).send(get('/')), { code: 'broker_garbled', sent: true });
      }
      assert.equal(visits, 0);
    });
  });

  it('stops when its caller does, before the answer and in the middle of it', async () => {
    const hangUps: string[] = [];
    const url = await serve((request, response) => {
      response.on('close', () => hangUps.push(request.url!));
      if (request.url === '/stream') response.write('first');
    });
    const uplink = open(url);
    const [early, late] = [new AbortController(), new AbortController()];
    const waiting = uplink.send({ ...get('/wait'), signal: early.signal });
    const incoming = await uplink.send({ ...get('/stream'), signal: late.signal });
    early.abort(new Error('the app has gone'));
    await assert.rejects(waiting, { message: 'the app has gone' });
    late.abort();
    await assert.rejects(textOf(incoming));
    while (hangUps.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(hangUps.toSorted(), ['/stream', '/wait']);
    await assert.rejects(uplink.send({ ...get('/never'), signal: early.signal }), { message: 'the app has gone' });
    assert.equal(hangUps.length, 2);
  });

  it('carries a token for a front end that wants one, fresh for each attempt and not signed', async () => {
    const seen: IncomingMessage[] = [];
    const url = await serve((request, response) => void (seen.push(request), response.end()));
    let tokens = 0;
    const uplink = open(url, { serverlessToken: () => Promise.resolve(`token-${++tokens}`) });
    for (let count = 0; count < 2; count++) await drain(await uplink.send(get('/')));
    const told = seen.map(({ headers }) => headers['x-serverless-authorization']);
    assert.deepEqual(told, ['Bearer token-1', 'Bearer token-2']);
    assert.ok(!seen[0]!.headers['signature-input']!.includes('serverless'));
  });

  describe('over TLS', () => {
    let certificate: { key: string; cert: string };
    before(() => {
      const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
      const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
      const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-keyout', key];
      execFileSync('openssl', ['req', '-x509', ...made, '-out', cert, ...names], { stdio: 'ignore' });
      certificate = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
    });
    const serveTls = async (answer: RequestListener, more = {}) =>
      listen(createTlsServer({ ...certificate, ...more }, answer).on('tlsClientError', () => {}));

    it('believes a certificate that was added, and learns the time over it', async () => {
      let asked = 0;
      const port = await serveTls((_, response) => {
        if (++asked === 1) response.writeHead(401, { 'x-sallyport-time': Date.now() + 600_000 });
        response.end('good');
      });
      const uplink = open(`https://localhost:${port}`, { extraCas: [certificate.cert] });
      assert.equal(await textOf(await uplink.send(get('/'))), 'good');
      assert.ok(Math.abs(uplink.offsetMs - 600_000) < 2000);
    });

    it('refuses one that nobody vouches for, whatever the environment says', async () => {
      const port = await serveTls(() => assert.fail('it was asked'));
      const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
      process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
      try {
        const refused = { code: 'broker_tls', sent: false, message: /certificate/ };
        await assert.rejects(open(`https://localhost:${port}`).send(get('/')), refused);
      } finally {
        if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
        else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before;
      }
    });

    it('refuses one for another name, and TLS older than 1.2', async () => {
      const extraCas = [certificate.cert];
      const port = await serveTls(() => assert.fail('it was asked'));
      const other = open(`https://127.0.0.2:${await listenOn('127.0.0.2', port)}`, { extraCas });
      await assert.rejects(other.send(get('/')), { code: 'broker_tls', message: /another name/ });
      const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' };
      const aged = open(`https://localhost:${await serveTls(() => assert.fail('it was asked'), old)}`, { extraCas });
      // Even where somebody has told all of Node to be content with less.
      const { DEFAULT_MIN_VERSION, DEFAULT_CIPHERS } = tls;
      Object.assign(tls, { DEFAULT_MIN_VERSION: 'TLSv1', DEFAULT_CIPHERS: 'DEFAULT@SECLEVEL=0' });
      try {
        await assert.rejects(aged.send(get('/')), { code: 'broker_tls', sent: false });
      } finally {
        Object.assign(tls, { DEFAULT_MIN_VERSION, DEFAULT_CIPHERS });
      }
    });

    it('goes through a proxy when it is switched on, and through none because the environment names one', async () => {
      const tunnels: string[] = [];
      const port = await serveTls((_, response) => void response.end('good'));
      const proxy = createServer().on('connect', (request, socket: Socket) => {
        tunnels.push(request.url!);
        const target = connect(port, '127.0.0.1', () => {
          socket.write('HTTP/1.1 200 OK\r\n\r\n');
          socket.pipe(target).pipe(socket);
        });
        for (const side of [socket, target]) side.on('error', () => {});
      });
      const https_proxy = `http://127.0.0.1:${await listen(proxy)}`;
      const through = { extraCas: [certificate.cert], connectMs: 300 };
      const uplink = open(`https://localhost:${port}`, { ...through, proxyEnv: { https_proxy } });
      const incoming = await uplink.send(get('/'));
      // The time for connecting is over, and the connection lives on.
      await new Promise((resolve) => setTimeout(resolve, 400));
      assert.equal(await textOf(incoming), 'good');
      assert.deepEqual(tunnels, [`localhost:${port}`]);
      const exempt = open(`https://localhost:${port}`, {
        ...through,
        proxyEnv: { https_proxy, no_proxy: 'localhost' },
      });
      assert.equal(await textOf(await exempt.send(get('/'))), 'good');
      assert.equal(await textOf(await open(`https://localhost:${port}`, through).send(get('/'))), 'good');
      assert.equal(tunnels.length, 1);
    });

    async function listenOn(host: string, port: number): Promise<number> {
      const carrier = createNetServer((socket) => {
        const target = connect(port, '127.0.0.1');
        for (const side of [socket, target]) side.on('error', () => {});
        socket.pipe(target).pipe(socket);
      });
      carrier.listen(0, host);
      await once(carrier, 'listening');
      closing.push(() => carrier.close());
      return (carrier.address() as AddressInfo).port;
    }
  });

  describe('takes as the address of a broker', () => {
    const taken = [
      ['https://broker.example.com', 'https://broker.example.com'],
      [' https://Broker.Example.com:443/ ', 'https://broker.example.com'],
      ['https://broker.example.com:8443', 'https://broker.example.com:8443'],
      ['http://127.0.0.1:8080', 'http://127.0.0.1:8080'],
      ['http://[::1]:8080', 'http://[::1]:8080'],
      ['http://localhost:8080', 'http://localhost:8080'],
    ] as const;
    for (const [text, origin] of taken) it(text, () => assert.equal(readBrokerUrl(text).origin, origin));

    const refused = [
      '',
      'broker.example.com',
      'ftp://broker.example.com',
      'file:///etc/passwd',
      'http://broker.example.com',
      'http://10.0.0.1',
      'http://localhost.example.com',
      'http://127.0.0.1.example.com',
      'https://name@broker.example.com',
      'https://broker.example.com/v1',
      'https://broker.example.com/?a=1',
      'https://broker.example.com/#a',
    ];
    for (const text of refused) {
      it(`never ${JSON.stringify(text)}`, () => assert.throws(() => readBrokerUrl(text), { code: 'broker_url' }));
    }
  });
});

function get(path: string, query = '') {
  return { method: 'GET', path, query, fields: {}, tag: 'sallyport-v1' as Tag, signal: AbortSignal.timeout(10_000) };
}

function viewOf(request: IncomingMessage): RequestView {
  const url = new URL(request.url!, 'http://broker');
  return {
    method: request.method!,
    authority: request.headers.host!,
    path: url.pathname,
    query: url.search,
    fields: new Map(Object.entries(request.headers).map(([name, value]) => [name, String(value)])),
    hasContent: request.headers['content-length'] !== undefined,
  };
}

function assertSigned(request: IncomingMessage, tag: Tag): void {
  const read = readSignature(viewOf(request), tag);
  assert.ok(isSignedBy(read, KEY));
  assert.ok(isInWindow(read, Math.floor(Date.now() / 1000)));
}

async function textOf({ body }: Incoming): Promise<string> {
  return Buffer.concat(await body.toArray()).toString();
}

async function drain(incoming: Incoming): Promise<void> {
  await textOf(incoming);
}

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { ask, CHAT, converse, openDoorWorld, until, type DoorWorld } from './door.test-support.ts';
import { DoorTaken } from './door.ts';
import { findPortHolder } from './port-holder.ts';

const HAS_IPV6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'));

describe('the door', () => {
  let world: DoorWorld;
  beforeEach(async () => void (world = await openDoorWorld()));
  afterEach(() => world.close());

  it('opens on the loopback addresses and on no other', async () => {
    const { port } = world;
    assert.deepEqual(world.door.addresses, [`http://127.0.0.1:${port}`, ...(HAS_IPV6 ? [`http://[::1]:${port}`] : [])]);
    const others = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
    for (const { address } of others.filter(({ internal }) => !internal)) {
      const socket = connect({ host: address, port });
      const hasConnected = await new Promise((resolve) => {
        socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
      });
      socket.destroy();
      assert.equal(hasConnected, false, address);
    }
  });

  it('hears over both families', async function () {
    if (!HAS_IPV6) this.skip();
    const request = `GET / HTTP/1.1\r\nHost: [::1]:${world.port}\r\nConnection: close\r\n\r\n`;
    assert.match(await converse(world.port, request, { host: '::1' }), /^HTTP\/1\.1 200 /);
  });

  for (const host of HAS_IPV6 ? ['127.0.0.1', '::1'] : ['127.0.0.1']) {
    it(`opens nowhere when ${host} is taken, and says by whom`, async () => {
      const squatter = createServer().listen({ host, port: 0, ipv6Only: true });
      await once(squatter, 'listening');
      const { port } = squatter.address() as AddressInfo;
      await assert.rejects(openDoorWorld({ port }), (error) => {
        assert.ok(error instanceof DoorTaken);
        assert.equal(error.exitCode, 78);
        assert.ok(error.message.includes(`Port ${port}`), error.message);
        if (process.platform === 'linux') assert.ok(error.message.includes(`(process ${process.pid})`), error.message);
        return true;
      });
      // It has not kept the other address either.
      const other = createServer().listen({ host: host === '::1' ? '127.0.0.1' : '::1', port, ipv6Only: true });
      if (HAS_IPV6) await once(other, 'listening');
      other.on('error', () => other.close());
      other.close();
      squatter.close();
    });
  }

  it('says that somebody holds the port where nobody can tell who', async () => {
    await assert.rejects(openDoorWorld({ port: world.port, findHolder: () => undefined }), /held by another program/);
    assert.equal(findPortHolder(world.port, '/nowhere'), undefined);
  });

  it('removes what a daemon before it left of its uploads', async () => {
    const left = join(world.spoolFolder, `upload-${'0'.repeat(32)}`);
    writeFileSync(left, 'x');
    const other = await openDoorWorld({ spoolFolder: world.spoolFolder });
    assert.equal(existsSync(left), false);
    await other.close();
  });

  it('says to strangers that it runs, and nothing else', async () => {
    const { status, headers, text } = await ask(world.port, { path: '/' });
    assert.deepEqual([status, text], [200, 'The Sallyport daemon runs on this computer.\n']);
    const names = Object.keys(headers).filter((name) => !['date', 'connection', 'keep-alive'].includes(name));
    assert.deepEqual(names.toSorted(), ['cache-control', 'content-length', 'content-type', 'x-content-type-options']);
  });

  it('tells strangers nothing of this machine in any refusal', async () => {
    const secrets = [
      String(process.pid),
      process.version,
      world.folder,
      String(world.brokerPort),
      'inst_0001',
      'editor',
    ];
    for (const path of [
      '/',
      '/nothing',
      '/v1/models',
      '/v1/whoami',
      '/status',
      '/debug',
      '/computeMetadata/v1/instance/',
    ]) {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'HEAD']) {
        const { headers, text, status } = await ask(world.port, { path, method });
        assert.ok(status !== 200 || (path === '/' && method === 'GET'), `${method} ${path}`);
        const said = JSON.stringify({ ...headers, date: '', 'content-length': '' }) + text;
        for (const secret of secrets) assert.ok(!said.includes(secret), `${method} ${path} says ${secret}`);
        assert.equal(headers['server'], undefined);
        assert.equal(headers['metadata-flavor'], undefined);
      }
    }
    assert.deepEqual(world.arrived, []);
  });

  it('asks for a token in the words of the caller’s own dialect', async () => {
    const rows = [
      ['/v1/chat/completions', (said: Said) => said.error.code === 'token_missing'],
      ['/v1/messages', (said: Said) => said.type === 'error' && said.error.type === 'authentication_error'],
      ['/v1beta/models/m:generateContent', (said: Said) => said.error.status === 'UNAUTHENTICATED'],
    ] as const;
    for (const [path, isRight] of rows) {
      const { status, text } = await ask(world.port, { path, body: CHAT });
      assert.equal(status, 401);
      const said = JSON.parse(text) as Said;
      assert.ok(isRight(said), text);
      assert.ok(said.error.message.includes('sallyport apps add NAME'));
    }
    assert.deepEqual(world.arrived, []);
  });

  it('hears one request of a connection at a time, and none behind a refusal', async () => {
    const good = chat(world);
    assert.equal((await converse(world.port, good + good, { silenceMs: 300 })).match(/HTTP\/1\.1 200/g)?.length, 2);
    const bad = chat(world, 'Host: evil.example');
    assert.doesNotMatch(await converse(world.port, bad + good, { silenceMs: 300 }), /HTTP\/1\.1 200/);
    assert.equal(world.arrived.length, 2);
  });

  it('takes so many connections and no more, and says so once', async () => {
    await world.close();
    world = await openDoorWorld({ connections: 4 });
    const sockets: Socket[] = [];
    for (let n = 0; n < 10; n++) sockets.push(connect(world.port, '127.0.0.1').on('error', () => {}));
    await until(() => sockets.filter(({ closed }) => closed).length === 6);
    assert.equal(world.logged.filter((line) => line.includes('more connections')).length, 1);
    for (const socket of sockets) socket.destroy();
    await until(() => sockets.every(({ closed }) => closed));
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal((await world.ask({ body: CHAT })).status, 200);
  });

  it('gives up on headers that do not come', async function () {
    this.timeout(20_000);
    const begun = performance.now();
    const said = await converse(world.port, 'POST /v1/chat/completions HTTP/1.1\r\nHost: a', { silenceMs: 15_000 });
    assert.match(said, /^HTTP\/1\.1 408 /);
    assert.ok(performance.now() - begun < 13_000);
  });

  it('gives up on a body that does not come', async () => {
    await world.close();
    world = await openDoorWorld({ bodyMs: 50 });
    const said = await converse(world.port, chat(world).slice(0, -5), { silenceMs: 5_000 });
    assert.match(said, /^HTTP\/1\.1 408 /);
    assert.deepEqual(world.arrived, []);
  });

  it('refuses a body that is too large, and is heard saying so', async () => {
    await world.close();
    world = await openDoorWorld({ bodyBytes: 1000 });
    for (const length of [1001, 5_000_000]) {
      const { status, text } = await world.ask({ body: 'x'.repeat(length) });
      assert.equal(status, 413);
      assert.match(text, /larger than 1000 bytes/);
      const chunked = { headers: ['Transfer-Encoding', 'chunked', 'Authorization', `Bearer ${world.token}`] };
      assert.equal((await world.ask({ ...chunked, body: 'x'.repeat(length) })).status, 413);
    }
    assert.equal((await world.ask({ body: 'x'.repeat(1000) })).status, 200);
    assert.equal(world.arrived.length, 1);
  });

  it('is heard by whoever sends everything before they read anything', async () => {
    const lines = [`Host: ${world.host}`, 'Authorization: Bearer spl_no', 'Content-Type: application/json'];
    const head = `POST /v1/chat/completions HTTP/1.1\r\n${lines.join('\r\n')}\r\nContent-Length: 300000\r\n\r\n`;
    for (let n = 0; n < 5; n++) {
      const socket = connect(world.port, '127.0.0.1').pause();
      socket.on('error', () => {});
      for (const piece of [head, ...Array.from({ length: 30 }, () => 'x'.repeat(10_000))]) {
        socket.write(piece);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      const said = await new Promise<string>((resolve) => {
        let text = '';
        socket.on('data', (data) => (text += String(data))).on('close', () => resolve(text));
        socket.resume();
        socket.end();
      });
      assert.match(said, /^HTTP\/1\.1 401 /);
    }
  });

  it('ends what is under way when it closes, with a word, and is gone then', async () => {
    world.answering = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: 1\n\n');
    };
    const streaming = world.ask({ body: CHAT });
    await until(() => world.open === 1);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const begun = performance.now();
    await world.door.close();
    assert.ok(performance.now() - begun < 1_500);
    const { text, isWhole } = await streaming;
    assert.match(text, /^data: 1\n\nevent: error\ndata: .*"daemon_stopping".*\n\n$/);
    assert.equal(isWhole, false);
    await until(() => world.open === 0);
    await assert.rejects(ask(world.port, { path: '/' }));
    world.door.close = async () => {};
  });
});

type Said = { type?: string; error: { code?: string; type?: string; status?: string; message: string } };

function chat({ host, token }: DoorWorld, hostLine = `Host: ${host}`): string {
  const lines = [
    hostLine,
    `Authorization: Bearer ${token}`,
    'Content-Type: application/json',
    `Content-Length: ${CHAT.length}`,
  ];
  return `POST /v1/chat/completions HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n${CHAT}`;
}

import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { PrivateAddressError, providerAgent } from './agent.ts';

describe('the way out', () => {
  // Whoever gets through to it has been let out to this very machine.
  let canary: Server;
  let connections: number;
  let port: number;

  before(async () => {
    canary = createServer((_, response) => void response.end('canary'));
    canary.on('connection', () => connections++);
    canary.listen(0, '::');
    await once(canary, 'listening');
    port = (canary.address() as AddressInfo).port;
  });
  after(() => void canary.close());
  beforeEach(() => void (connections = 0));

  async function reach(host: string, allowPrivate: boolean): Promise<string> {
    const agent = providerAgent({ allowPrivate, connectTimeoutMs: 2000 });
    try {
      const { body } = await agent.request({ origin: `http://${host}:${port}`, path: '/', method: 'GET' });
      return await body.text();
    } finally {
      await agent.destroy();
    }
  }

  const PRIVATE = [
    'localhost',
    '127.0.0.1',
    '127.1',
    '2130706433',
    '0x7f000001',
    '0177.0.0.1',
    '0.0.0.0',
    '[::1]',
    '[::]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[0:0:0:0:0:0:0:1]',
    'LOCALHOST',
  ];
  for (const host of PRIVATE) {
    it(`does not lead to ${host}, and no connection is tried`, async () => {
      await assert.rejects(reach(host, false), (error: Error) => {
        assert.ok(error instanceof PrivateAddressError, String(error));
        assert.match(error.message, /not a public address; set allow_private on the provider if that is meant/);
        return true;
      });
      assert.equal(connections, 0);
    });
  }

  for (const host of [
    '169.254.169.254',
    '10.0.0.1',
    '192.168.1.1',
    '172.16.0.1',
    '100.64.0.1',
    '[fd00:ec2::254]',
    '[fe80::1]',
    '[64:ff9b::a9fe:a9fe]',
  ]) {
    it(`does not lead to ${host}`, async () => {
      await assert.rejects(reach(host, false), PrivateAddressError);
    });
  }

  for (const host of ['localhost', '127.0.0.1', '[::1]', '127.1']) {
    it(`leads to ${host} where private addresses are allowed`, async () => {
      assert.equal(await reach(host, true), 'canary');
      assert.equal(connections, 1);
    });
  }

  it('says of a name that does not exist that it does not exist', async () => {
    for (const allowPrivate of [true, false]) {
      await assert.rejects(reach('no-such-name.invalid', allowPrivate), (error: NodeJS.ErrnoException) => {
        assert.ok(!(error instanceof PrivateAddressError));
        assert.match(String(error.code), /ENOTFOUND|EAI_AGAIN/);
        return true;
      });
    }
  });

  it('looks a name up as it was told to', async () => {
    const agent = (address: string, allowPrivate: boolean) =>
      providerAgent({
        allowPrivate,
        connectTimeoutMs: 2000,
        lookup: (host, _, found) =>
          host === 'vendor.example' ? found(null, [{ address, family: 4 }]) : assert.fail(host),
      });
    const ask = { origin: `http://vendor.example:${port}`, path: '/', method: 'GET' as const };
    const open = agent('127.0.0.1', true);
    assert.equal(await (await open.request(ask)).body.text(), 'canary');
    await open.destroy();
    const closed = agent('127.0.0.1', false);
    await assert.rejects(closed.request(ask), /^PrivateAddressError: vendor\.example is at 127\.0\.0\.1,/);
    await closed.destroy();
    assert.equal(connections, 1);
  });

  for (const scheme of ['http', 'https']) {
    it(`has a silent connection probed every 15 seconds, over ${scheme}`, async () => {
      const probes: unknown[][] = [];
      const watch = (message: unknown) => {
        const { socket } = message as { socket: Socket };
        const { setKeepAlive } = socket;
        socket.setKeepAlive = (...settings: unknown[]): Socket => {
          probes.push(settings);
          return Reflect.apply(setKeepAlive, socket, settings);
        };
      };
      subscribe('net.client.socket', watch);
      const agent = providerAgent({ allowPrivate: true, connectTimeoutMs: 2000 });
      // The canary knows no TLS, but the socket beneath has been set up by then.
      await agent
        .request({ origin: `${scheme}://127.0.0.1:${port}`, path: '/', method: 'GET' })
        .then(({ body }) => body.dump())
        .catch((error: NodeJS.ErrnoException) => assert.ok(scheme === 'https', error));
      unsubscribe('net.client.socket', watch);
      await agent.destroy();
      assert.deepEqual(probes.at(-1), [true, 15_000]);
    });
  }

  it('keeps one connection for requests that follow each other, and takes a second beside a slow one', async () => {
    const agent = providerAgent({ allowPrivate: true, connectTimeoutMs: 2000 });
    try {
      const ask = async () =>
        (await agent.request({ origin: `http://127.0.0.1:${port}`, path: '/', method: 'GET' })).body;
      await (await ask()).text();
      // A connection is free again a moment after its answer has been read.
      await setTimeout(20);
      await (await ask()).text();
      assert.equal(connections, 1);
      await setTimeout(20);
      const bodies = await Promise.all([ask(), ask()]);
      assert.equal(connections, 2);
      await Promise.all(bodies.map((body) => body.text()));
    } finally {
      await agent.destroy();
    }
  });
});

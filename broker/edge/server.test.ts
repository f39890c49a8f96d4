import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { openServer, warnOfDrops } from './server.ts';

const GET = (path: string, ...headers: string[]) =>
  ['GET ' + path + ' HTTP/1.1', 'Host: h', ...headers, '', ''].join('\r\n');

describe('the server', () => {
  const warnings: object[] = [];
  const log = { warn: (facts: object) => void warnings.push(facts) } as never;
  const heard: string[] = [];
  let answerWith: (request: IncomingMessage, response: ServerResponse) => void;
  let server: Server;
  let sockets: Socket[];

  async function open(connections = 100): Promise<void> {
    server = openServer(
      (request, response) => {
        heard.push(request.url!);
        answerWith(request, response);
      },
      { connections, log },
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }

  beforeEach(() => {
    answerWith = (request, response) => void response.end(`answer to ${request.url}`);
    heard.length = 0;
    warnings.length = 0;
    sockets = [];
    return open();
  });
  afterEach(() => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    server.close();
  });

  function dial({ allowHalfOpen = false } = {}) {
    const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen });
    sockets.push(socket);
    let text = '';
    socket.on('data', (data: Buffer) => (text += data.toString('latin1')));
    socket.on('error', () => {});
    const closed = new Promise<void>((resolve) => void socket.on('close', () => resolve()));
    return { socket, said: () => text, closed };
  }

  async function untilClosed(...writes: string[]): Promise<string> {
    const { socket, said, closed } = dial();
    for (const text of writes) {
      socket.write(text, 'latin1');
      await setTimeout(20);
    }
    await closed;
    return said();
  }

  const statuses = (said: string) => Array.from(said.matchAll(/HTTP\/1\.1 (\d+)/g), ([, status]) => Number(status));

  it('hears requests that were sent together one after the other', async () => {
    let isBusy = false;
    answerWith = async (request, response) => {
      assert.ok(!isBusy, 'the one before was not answered yet');
      isBusy = true;
      await setTimeout(10);
      isBusy = false;
      response.end(request.url);
    };
    const said = await untilClosed(GET('/1') + GET('/2') + GET('/3', 'Connection: close'));
    assert.deepEqual(
      [heard, statuses(said)],
      [
        ['/1', '/2', '/3'],
        [200, 200, 200],
      ],
    );
  });

  it('does not hear what stands behind an answer that ended the connection before its body was read', async () => {
    answerWith = (_, response) => void response.writeHead(400, { connection: 'close' }).end();
    const post = (path: string) => `POST ${path} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello`;
    const said = await untilClosed(post('/1') + post('/2'));
    assert.deepEqual([heard, statuses(said)], [['/1'], [400]]);
  });

  it('does not hear what stands behind an answer that ended the connection', async () => {
    answerWith = async (_, response) => {
      await setTimeout(10);
      response.writeHead(400, { connection: 'close' }).end();
    };
    const said = await untilClosed(GET('/1') + GET('/2') + GET('/3'));
    assert.deepEqual([heard, statuses(said)], [['/1'], [400]]);
  });

  it('hears no more than a hundred that were sent ahead', async () => {
    answerWith = () => {};
    await untilClosed(GET('/').repeat(102));
    assert.equal(heard.length, 1);
    const { socket, said } = dial();
    answerWith = (_, response) => void setImmediate(() => response.end());
    socket.write(GET('/').repeat(101));
    while (statuses(said()).length < 101) await setTimeout(10);
  });

  it('finishes an answer before it refuses what cannot be read behind it', async () => {
    answerWith = async (_, response) => {
      response.write('begin ');
      await setTimeout(100);
      response.end('end');
    };
    for (const hostile of [
      'GARBAGE\r\n\r\n',
      'CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n',
      `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
    ]) {
      const said = await untilClosed(GET('/'), hostile, hostile);
      assert.match(said, /^HTTP\/1\.1 200 OK\r\n[^]*\r\nbegin \r\n[^]*\r\nend\r\n0\r\n\r\nHTTP\/1\.1 4\d\d /);
    }
  });

  it('finishes an answer though the first word of HTTP/2 stands behind it', async () => {
    answerWith = async (_, response) => {
      await setTimeout(100);
      response.end('end');
    };
    const said = await untilClosed(GET('/'), 'PRI *ted=1\r\nA: b\r\n\r\n');
    assert.match(said, /^HTTP\/1\.1 200 OK\r\n[^]*\r\nend/);
  });

  it('keeps one refusal ready, however much more there is that cannot be read', async () => {
    let waiting = 0;
    answerWith = async (_, response) => {
      await setTimeout(200);
      waiting = response.listenerCount('close');
      response.end();
    };
    await untilClosed(GET('/'), ...Array<string>(8).fill('GARBAGE\r\n\r\n'));
    assert.ok(waiting < 4, `${waiting} listeners`);
  });

  it('refuses at once what cannot be read inside a body', async () => {
    answerWith = () => {};
    const said = await untilClosed('POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n', 'zz\r\n');
    assert.match(said, /^HTTP\/1\.1 400 [^]*"code":"request_malformed"/);
  });

  it('writes no refusal into an answer that was begun before its body was read', async () => {
    answerWith = async (_, response) => {
      response.write('begin ');
      await setTimeout(100);
      response.end('end');
    };
    const said = await untilClosed('POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n', 'zz\r\n');
    assert.match(said, /\r\nbegin \r\n[^]*\r\nend\r\n0\r\n\r\nHTTP\/1\.1 400 /);
  });

  // Node takes its own listeners off the socket of a CONNECT or an upgrade, and an error that nobody hears ends the process.
  for (const head of [
    'CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n',
    GET('/', 'Upgrade: websocket', 'Connection: Upgrade'),
    'GARBAGE\r\n\r\n',
  ]) {
    it(`lives on when a caller resets the connection after ${JSON.stringify(head.slice(0, 30))}`, async () => {
      const uncaught: unknown[] = [];
      const listeners = process.listeners('uncaughtException');
      process.removeAllListeners('uncaughtException').on('uncaughtException', (error) => uncaught.push(error));
      try {
        for (let i = 0; i < 50; i++) {
          const { socket, closed } = dial();
          await once(socket, 'connect');
          socket.write(head);
          if (i % 2 === 0) await setTimeout(1);
          socket.resetAndDestroy();
          await closed;
        }
        await setTimeout(50);
      } finally {
        process.removeAllListeners('uncaughtException');
        for (const listener of listeners) process.on('uncaughtException', listener);
      }
      assert.deepEqual(uncaught, []);
    });
  }

  it('does not listen for long to a caller who has its answer and goes on sending', async () => {
    answerWith = (_, response) => void response.writeHead(413, { connection: 'close' }).end();
    const { socket, closed } = dial({ allowHalfOpen: true });
    const began = performance.now();
    socket.write('POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n');
    const timer = setInterval(() => socket.write('x'), 10);
    await closed;
    clearInterval(timer);
    const took = performance.now() - began;
    assert.ok(took > 1900 && took < 4000, `${took} ms`);
  });

  it('gives up on a caller who does not read what was written', async () => {
    server.timeout = 200;
    answerWith = (_, response) => void response.end('x'.repeat(20_000_000));
    const { socket } = dial();
    socket.pause();
    socket.write(GET('/'));
    const [theirs] = (await once(server, 'connection')) as [Socket];
    const began = performance.now();
    await once(theirs, 'close');
    assert.ok(performance.now() - began < 2000);
  });

  it('does not give up on an answer that thinks for longer', async () => {
    server.timeout = 50;
    answerWith = async (_, response) => {
      await setTimeout(300);
      response.end();
    };
    assert.deepEqual(statuses(await untilClosed(GET('/', 'Connection: close'))), [200]);
  });

  it('turns away what is above its limit of connections, and says so', async () => {
    server.close();
    await open(1);
    const first = dial();
    await once(first.socket, 'connect');
    for (let i = 0; i < 3; i++) await dial().closed;
    assert.deepEqual(warnings, [{ dropped: 1 }]);
    first.socket.write(GET('/'));
    await once(first.socket, 'data');
  });

  it('says how many it turned away at once, and then not again before its time', async () => {
    warnOfDrops(server, log, 100);
    const drop = (times: number) => {
      while (times-- > 0) server.emit('drop');
    };
    drop(3);
    assert.equal(warnings.filter((facts) => 'dropped' in facts).length, 2, 'each of the two watchers, once');
    await setTimeout(150);
    assert.deepEqual(warnings.at(-1), { dropped: 2 });
    await setTimeout(150);
    drop(1);
    assert.deepEqual(warnings.at(-1), { dropped: 1 });
  });
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { until } from './door.test-support.ts';
import { openListener } from './listener.ts';

describe('a listener of the door', () => {
  const REQUEST = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

  async function listening(handle: (response: ServerResponse) => void) {
    const server = openListener({
      admit: () => true,
      handle: (_, response) => handle(response),
      refusal: () => undefined,
      unreadMs: 100,
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { server, port: (server.address() as AddressInfo).port };
  }

  it('gives up on whoever leaves a complete answer unread', async () => {
    const answers: ServerResponse[] = [];
    const { server, port } = await listening((response) => {
      answers.push(response);
      response.end(Buffer.alloc(32 * 1024 * 1024));
    });
    const socket = connect(port, '127.0.0.1').pause();
    socket.on('error', () => {});
    socket.write(REQUEST);
    await until(() => answers[0]?.closed === true);
    assert.equal(answers[0]!.writableFinished, false);
    socket.destroy();
    server.close();
  });

  it('waits with whoever waits for an answer that is still being thought about', async () => {
    const { server, port } = await listening((response) => void setTimeout(() => response.end('late'), 400));
    const socket = connect(port, '127.0.0.1');
    socket.write(REQUEST);
    const [said] = (await once(socket, 'data')) as [Buffer];
    assert.match(said.toString(), /late$/);
    socket.destroy();
    server.close();
  });

  it('destroys whoever asks for ever without reading one answer', async () => {
    let asked = 0;
    const { server, port } = await listening(() => void asked++);
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(REQUEST.repeat(30));
    await once(socket, 'close');
    assert.equal(asked, 1);
    server.close();
  });
});

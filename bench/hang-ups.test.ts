import assert from 'node:assert/strict';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type HangUps, hangUpOn } from './hang-ups.ts';
import { plainSource } from './request-source.ts';

// The patience of the real thing is kept wherever an answer comes: a busy machine must not look like a wedge.
const QUICKLY = { bursts: 2, clients: 8, longestMs: 20, graceMs: 200 };
const CLIENTS = QUICKLY.bursts * QUICKLY.clients;

describe('clients that hang up', () => {
  it('do nothing to a server that hears it', async () => {
    assert.deepEqual(await hangUp({}), { crashes: 0, wedged: 0, leftRunning: 0 });
  });

  it('show every request that is not answered in time', async () => {
    const { wedged, crashes } = await hangUp({ ordinary: () => {}, patienceMs: 100 });
    assert.deepEqual([wedged, crashes], [CLIENTS, 0]);
  });

  it('show a request that is refused, or answered in part', async () => {
    let turn = 0;
    const ordinary = (response: ServerResponse): void => {
      if (turn++ % 2 === 0) response.writeHead(500).end('answer');
      else response.end('ans');
    };
    assert.equal((await hangUp({ ordinary })).wedged, CLIENTS);
  });

  it('show a process that is gone as one crash', async () => {
    let ended = false;
    const stream = (response: ServerResponse): void => {
      ended = true;
      response.destroy();
    };
    const ordinary = (response: ServerResponse): unknown => response.destroy();
    assert.deepEqual(await hangUp({ stream, ordinary, hasEnded: () => ended }), {
      crashes: 1,
      wedged: 0,
      leftRunning: 0,
    });
  });

  it('show the streams that go on without them', async () => {
    const stillSending = [3, 19];
    const { leftRunning } = await hangUp({ openStreams: () => stillSending.shift() ?? NaN });
    assert.equal(leftRunning, 16);
  });
});

type Behaviour = {
  patienceMs?: number;
  stream?: (response: ServerResponse) => void;
  ordinary?: (response: ServerResponse) => void;
  hasEnded?: () => boolean;
  openStreams?: () => number;
};

async function hangUp({ stream, ordinary, hasEnded, openStreams, ...patience }: Behaviour): Promise<HangUps> {
  let open = 0;
  const listener: RequestListener = (request, response) => {
    const parts: Buffer[] = [];
    request.on('error', () => {});
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      if (!Buffer.concat(parts).includes('"stream":true')) {
        return ordinary === undefined ? response.end('answer') : ordinary(response);
      }
      open++;
      response.on('close', () => open--);
      return stream === undefined ? response.writeHead(200).write('data: {}\n\n') : stream(response);
    });
  };
  const server = createServer(listener).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  const tested = {
    port,
    source: (ask: Parameters<typeof plainSource>[0]) => plainSource(ask, port, {}),
    answerBytes: 'answer'.length,
    hasEnded: hasEnded ?? (() => false),
    openStreams: async () => (openStreams === undefined ? open : openStreams()),
  };
  try {
    return await hangUpOn(tested, Math.random, { ...QUICKLY, ...patience });
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

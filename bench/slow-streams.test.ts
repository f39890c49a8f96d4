import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { plainSource } from './request-source.ts';
import { holdSlowStreams, type SlowStreams } from './slow-streams.ts';

const QUICKLY = { streams: 10, atOnce: 4, readEveryMs: 5, settleMs: 20, sampleMs: 1 };

// Of the pretend process.
const MEMORY = { alone: 100e6, ofStream: 100e3 };

describe('slow streams', () => {
  it('are all open when the memory is looked at, and none of them afterwards', async () => {
    const found = await hold((_, response) => response.writeHead(200).write('data: {}\n\n'));
    assert.deepEqual(found, { warmMb: 100, slowMb: 101, slowStreamKb: 100 });
  });

  for (const [name, listener, says] of [
    ['are not those of a server that refuses', (_, response) => response.writeHead(503).end('too many'), /503/],
    ['are not those of a server that answers at once', (_, response) => response.end('data: {}\n\n'), /is over/],
    ['are not those of a server that hangs up', (request) => request.socket.destroy(), /closed|ECONNRESET/],
  ] as const satisfies [string, RequestListener, RegExp][]) {
    it(name, () => assert.rejects(hold(listener), says));
  }
});

async function hold(listener: RequestListener): Promise<SlowStreams> {
  let open = 0;
  const server = createServer((request, response) => {
    open++;
    response.on('close', () => open--);
    listener(request, response);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    const residentBytes = (): number => MEMORY.alone + open * MEMORY.ofStream;
    const found = await holdSlowStreams({ port, source: (ask) => plainSource(ask, port, {}), residentBytes }, QUICKLY);
    while (residentBytes() > MEMORY.alone) await sleep(1);
    return found;
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

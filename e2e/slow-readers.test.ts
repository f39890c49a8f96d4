import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { bytesOf, CHAT, openWorld, type Vendor } from './world.ts';

const READERS = 500;
// What waits in buffers is about half of it: a block being written, one being read, and one read already. The rest is V8,
// which grows under load whoever reads or does not. A vendor behind TLS is read in blocks a quarter as large.
const MOST_BYTES_EACH = 640 * 1024;
// All must be there before the first is given up, on a machine that has other things to do.
const PATIENCE_SECONDS = 20;

const EVENT = Buffer.from(
  `data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"${'x'.repeat(4000)}"}}]}\n\n`,
);

// Says as much as is taken from it, for ever.
function eagerVendor() {
  const live = new Set<Socket>();
  const answer: Vendor = ({ socket }, _, response) => {
    live.add(socket);
    socket.once('close', () => live.delete(socket));
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const talk = () => {
      while (!response.destroyed && response.write(EVENT));
      response.once('drain', talk);
    };
    talk();
  };
  return { answer, live };
}

describe('callers that ask and do not read', function () {
  this.timeout(180_000);
  // What a process holds is read from /proc.
  before(function () {
    if (process.platform !== 'linux') this.skip();
  });

  it(`cost a bounded amount each, and are given up in the end: ${READERS} streams`, async () => {
    const vendor = eagerVendor();
    const world = await openWorld({
      apart: true,
      vendor: vendor.answer,
      // It has all of them to talk to at once, and nobody it talks to is in a hurry.
      timeouts: 'headers_seconds: 60, idle_seconds: 60',
      more: `streams: { slow_reader_seconds: ${PATIENCE_SECONDS} }`,
    });
    const sockets: Socket[] = [];
    try {
      const { residentBytes } = world.apart!;
      // Under its first load V8 grows by as much as all the streams hold; that is not theirs.
      const messages = [{ role: 'user', content: '/words 2000' }];
      const busy = async () => {
        for (let i = 0; i < 20; i++) await world.chat({ model: 'echo', messages, stream: true });
      };
      await Promise.all(Array.from({ length: 20 }, busy));
      const before = residentBytes();
      for (let i = 0; i < READERS; i++) {
        const socket = connect(world.port, '127.0.0.1')
          .on('error', () => {})
          .pause();
        socket.write(bytesOf(world.prepare({ body: { ...CHAT, stream: true } })));
        sockets.push(socket);
        if (i % 25 === 0) await setTimeout(20);
      }
      // Until the kernel's buffers are full too and they are stuck, and on until they have been given up.
      let most = 0;
      let atOnce = 0;
      for (let waited = 0; waited < 600 && (waited < 10 || vendor.live.size > 0); waited++) {
        most = Math.max(most, residentBytes());
        atOnce = Math.max(atOnce, vendor.live.size);
        const asked = performance.now();
        assert.equal((await world.ask({ method: 'GET', path: '/v1/models' })).status, 200);
        assert.ok(performance.now() - asked < 2000, 'whoever reads is not kept waiting');
        await setTimeout(100);
      }
      assert.ok(atOnce > READERS / 2, `${atOnce} of ${READERS} at once`);
      assert.equal(vendor.live.size, 0, 'the vendor is still held for callers that do not read');
      const each = (most - before) / atOnce;
      const kib = (bytes: number) => Math.round(bytes / 1024);
      console.log(
        `      ${atOnce} streams that nobody reads: ${kib(before / 1024)} MiB before, at most ${kib(most / 1024)} MiB, ${kib(each)} KiB a stream`,
      );
      assert.ok(each < MOST_BYTES_EACH, `${each} bytes each`);
      const ended = () => world.log.flatMap((line) => /"end":"([^"]+)"/.exec(line)?.[1] ?? []);
      for (let waited = 0; waited < 100 && ended().filter((end) => end !== 'whole').length < READERS; waited++)
        await setTimeout(100);
      const ends = ended().filter((end) => end !== 'whole');
      assert.deepEqual(
        ends,
        Array.from({ length: READERS }, () => 'too slow'),
        `${ends.length}: ${[...new Set(ends)].join()}`,
      );
    } finally {
      for (const socket of sockets) socket.destroy();
      await world.close();
    }
  });
});

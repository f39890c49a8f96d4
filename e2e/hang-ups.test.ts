import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { answerOk, bytesOf, CHAT, openWorld, type Vendor, type World } from './world.ts';

const HANG_UPS = process.env['PROVE'] === 'full' ? 10_000 : 1_000;
const AT_ONCE = 20;
const BURSTS = 12;
const BURST = 32;

const EVENT = `data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"${'x'.repeat(80)}"}}]}\n\n`;

// Talks for ever, and notes when it was hung up on: by the number that stands in the request.
function endlessVendor() {
  const closedMs = new Map<string, number>();
  const live = new Set<string>();
  const answer: Vendor = (request, body, response) => {
    if (!body.includes('"stream":true')) return answerOk(request, body, response);
    const id = /"user":"(\d+)"/.exec(body.toString())?.[1] ?? 'none';
    live.add(id);
    request.socket.once('close', () => {
      closedMs.set(id, performance.now());
      live.delete(id);
    });
    // Some are hung up on before they have said anything.
    const timer = globalThis.setTimeout(
      () => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        const talk = setInterval(() => response.write(EVENT), 5);
        response.once('close', () => clearInterval(talk));
      },
      Number(id) % 4 === 0 ? 60 : 0,
    );
    response.once('close', () => clearTimeout(timer));
  };
  return { answer, closedMs, live };
}

describe('a caller that hangs up', function () {
  this.timeout(600_000);
  let world: World;
  const vendor = endlessVendor();
  before(async () => void (world = await openWorld({ vendor: vendor.answer })));
  after(() => world.close());

  const ask = (id: string) => bytesOf(world.prepare({ body: { ...CHAT, stream: true, user: id } }));

  // Sends the request, reads this many bytes of the answer, and is gone.
  async function hangUpAfter(bytes: number, id: string, leave: (socket: Socket) => void): Promise<number> {
    const socket = connect(world.port, '127.0.0.1').on('error', () => {});
    let read = 0;
    const enough = new Promise<void>((resolve) => {
      socket.on('data', (data) => {
        read += data.length;
        if (read >= bytes) resolve();
      });
    });
    socket.write(ask(id));
    if (bytes > 0) await enough;
    // Nothing read: the request is on its way to the vendor, or waits for its first word.
    else await setTimeout(10 + (Number(id) % 30));
    const leftMs = performance.now();
    leave(socket);
    return leftMs;
  }

  it(`has the vendor hung up on too, within 100 ms for 99 of 100: ${HANG_UPS} at random bytes`, async () => {
    const leftMs = new Map<string, number>();
    let next = 0;
    const run = async () => {
      for (let number = next++; number < HANG_UPS; number = next++) {
        const id = String(number);
        const bytes = number % 5 === 0 ? 0 : 1 + ((number * 7919) % 4000);
        const leave = (socket: Socket) => void (number % 2 === 0 ? socket.destroy() : socket.resetAndDestroy());
        leftMs.set(id, await hangUpAfter(bytes, id, leave));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, run));
    await setTimeout(500);
    assert.deepEqual([...vendor.live], [], 'streams that nobody reads any more');
    // One that left before its request reached the vendor has nothing to be hung up on.
    const delays = [...vendor.closedMs].map(([id, closed]) => closed - leftMs.get(id)!).toSorted((a, b) => a - b);
    const at = (share: number) => delays[Math.ceil(delays.length * share) - 1]!;
    console.log(
      `      ${HANG_UPS} hang-ups, ${delays.length} while the vendor was at it: closed there after p50 ${at(0.5).toFixed(1)} ms, ` +
        `p99 ${at(0.99).toFixed(1)} ms, at most ${at(1).toFixed(1)} ms; orphans: 0`,
    );
    assert.ok(delays.length > HANG_UPS * 0.9);
    assert.ok(at(0.99) < 100, `p99 ${at(0.99)}`);
    assert.ok(at(1) < 1000, `at most ${at(1)}`);
  });

  it(`leaves no connection behind that answers nobody: ${BURSTS} bursts of ${BURST}`, async () => {
    for (let burst = 0; burst < BURSTS; burst++) {
      const sockets = await Promise.all(
        Array.from({ length: BURST }, async (_, index) => {
          const socket = connect(world.port, '127.0.0.1').on('error', () => {});
          await once(socket, 'connect');
          socket.write(ask(String(1_000_000 + burst * BURST + index)));
          return socket;
        }),
      );
      await setTimeout(burst * 3);
      for (const socket of sockets) socket.destroy();
      const asked = performance.now();
      assert.equal((await world.chat()).status, 200);
      assert.ok(performance.now() - asked < 2000);
    }
    await setTimeout(300);
    assert.equal(vendor.live.size, 0);
    assert.equal((await world.ask({ method: 'GET', path: '/liveness', signed: false })).status, 200);
  });
});

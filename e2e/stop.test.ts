import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { Agent } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { SNAPSHOT } from '../broker/auth/replay-handover.ts';
import { bytesOf, CHAT, openWorld, type Vendor } from './world.ts';

const STREAMS = 200;
const EVENT =
  'data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"on "}}]}\n\n';

/** A request on a socket of its own, and all that came back until the socket was closed. */
function open(port: number, bytes: Buffer) {
  const begun = Promise.withResolvers<void>();
  const ended = new Promise<string>((resolve) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    socket.setEncoding('utf8').on('data', (data: string) => {
      text += data;
      begun.resolve();
    });
    socket.on('error', () => {}).on('close', () => resolve(text));
  });
  return { begun: begun.promise, ended };
}

describe('a broker that is asked to stop', function () {
  this.timeout(60_000);

  it(`lets finish what can, ends ${STREAMS} streams each with an error event, and is gone within 9 s`, async () => {
    const vendor: Vendor = (_, body, response) => {
      const text = body.toString();
      // One that is nearly done, one that has not said a word, and many that go on and on.
      if (text.includes('nearly done')) {
        void setTimeout(3_000).then(() => response.setHeader('content-type', 'application/json').end('{"done":true}'));
      } else if (!text.includes('not a word')) {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        const talk = setInterval(() => response.write(EVENT), 200);
        response.once('close', () => clearInterval(talk));
      }
    };
    const world = await openWorld({ apart: true, vendor, timeouts: 'headers_seconds: 30' });
    try {
      const { apart } = world;
      const streams = Array.from({ length: STREAMS }, () =>
        open(world.port, bytesOf(world.prepare({ body: { ...CHAT, stream: true } }))),
      );
      await Promise.all(streams.map(({ begun }) => begun));
      const nearlyDone = world.chat({ user: 'nearly done' });
      const noWord = open(world.port, bytesOf(world.prepare({ body: { ...CHAT, user: 'not a word' } })));
      // Its sender never finishes; nothing of it must hold the end up.
      const half = open(world.port, bytesOf(world.prepare({ body: CHAT })).subarray(0, -5));
      const keepAlive = new Agent({ keepAlive: true });
      await world.deliver(world.prepare({ method: 'GET', path: '/v1/models' }), keepAlive);
      await setTimeout(200);

      const askedMs = performance.now();
      apart!.kill('SIGTERM');
      // As under npm, where Ctrl+C arrives twice.
      apart!.kill('SIGTERM');
      await setTimeout(300);
      await assert.rejects(world.chat(), /ECONNREFUSED/, 'nothing new is taken');
      const finished = await nearlyDone;
      assert.deepEqual([finished.status, finished.text], [200, '{"done":true}']);

      const texts = await Promise.all(streams.map(({ ended }) => ended));
      const [code, signal] = await apart!.exited;
      const tookMs = performance.now() - askedMs;
      const told = texts.filter((text) => /event: error\ndata: \{.*"code":"broker_stopping".*\}\n\n/.test(text));
      console.log(
        `      ${told.length} of ${STREAMS} streams ended with an error event; gone after ${Math.round(tookMs)} ms with ${code}`,
      );
      assert.equal(told.length, STREAMS);
      for (const text of texts)
        assert.doesNotMatch(text, /\[DONE\]|\r\n0\r\n\r\n$/, 'a proper end would say it is whole');
      assert.match(await noWord.ended, /^HTTP\/1\.1 503 .*"code":"broker_stopping"/s);
      assert.doesNotMatch(await half.ended, / 200 /);
      assert.deepEqual([code, signal], [0, null]);
      assert.ok(tookMs < 9_000, `${tookMs} ms`);
      // Nothing that was known is lost: a line for every stream, and the signatures that were used.
      assert.equal(
        world.log.filter((line) => line.includes('"code":"broker_stopping"') && line.includes('"end":"cut"')).length,
        STREAMS,
      );
      assert.ok(existsSync(join(world.folder, 'data', SNAPSHOT)));
      keepAlive.destroy();
    } finally {
      await world.close();
    }
  });

  it('goes on serving for as long as a load balancer needs, and says meanwhile that it is not ready', async () => {
    const world = await openWorld({
      apart: true,
      more: 'shutdown: { accept_seconds: 2, finish_seconds: 1, end_seconds: 0.2 }',
    });
    try {
      // A connection that is busy while all this begins is not kept afterwards.
      const keepAlive = new Agent({ keepAlive: true });
      const content = '/delay 2300\nhello';
      const slow = world.prepare({ body: { model: 'echo', messages: [{ role: 'user', content }] } });
      const busy = world.deliver(slow, keepAlive);
      const ready = () => world.ask({ method: 'GET', path: '/ready', signed: false });
      assert.equal((await ready()).status, 200);
      const askedMs = performance.now();
      world.apart!.kill('SIGTERM');
      await setTimeout(300);
      const { status, text, headers } = await ready();
      assert.deepEqual([status, JSON.parse(text).issues], [503, ['shutting down']]);
      assert.ok(Number(headers['retry-after']) > 0);
      const answer = await world.chat();
      assert.deepEqual([answer.status, answer.headers.connection], [200, 'close']);
      assert.equal((await busy).status, 200);
      const [code] = await world.apart!.exited;
      const tookMs = performance.now() - askedMs;
      assert.equal(code, 0);
      assert.ok(
        tookMs >= 2_000 && tookMs < 2_900,
        `what was left to finish was waited for, and nothing else: ${tookMs} ms`,
      );
      keepAlive.destroy();
    } finally {
      await world.close();
    }
  });
});

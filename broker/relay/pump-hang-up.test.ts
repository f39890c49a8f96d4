import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { Agent } from 'undici';
import { answerTo, DONE, event, JSON_TYPE, openHops, read, SSE } from './hop.test-support.ts';

describe('the pump hangs up on the vendor', () => {
  const hops = openHops();
  const { between } = hops;
  afterEach(hops.close);

  for (const [when, begin] of [
    ['before the first word', () => {}],
    ['after the headers', (response: ServerResponse) => response.writeHead(200, SSE).flushHeaders()],
    ['in the middle', (response: ServerResponse) => response.writeHead(200, SSE).write(event('a'))],
    ['in the middle of an event', (response: ServerResponse) => response.writeHead(200, SSE).write('data: {"a"')],
    ['in the middle of a refusal', (response: ServerResponse) => response.writeHead(400, JSON_TYPE).write('{"error"')],
  ] as const) {
    it(`within 100 ms when the caller does, ${when}`, async () => {
      const asked = Promise.withResolvers<ServerResponse>();
      const { call, passed } = await between((_, response) => {
        begin(response);
        asked.resolve(response);
      });
      const request = call();
      const vendor = await asked.promise;
      if (when === 'in the middle') await answerTo(request);
      else await setTimeout(20);
      const closed = once(vendor, 'close');
      const left = performance.now();
      request.destroy();
      await closed;
      assert.ok(performance.now() - left < 100);
      assert.deepEqual(await passed[0]!.done, { end: 'hung up' });
    });
  }

  it('before it has asked at all, when the caller left while the request stood in a queue', async () => {
    const asked: ServerResponse[] = [];
    const isAsked = Promise.withResolvers<void>();
    const { call, outcome, passed } = await between(
      (_, response) => {
        asked.push(response);
        isAsked.resolve();
        if (asked.length > 1) response.writeHead(200, SSE).end(event('x'.repeat(200_000)) + DONE);
      },
      { dispatcher: new Agent({ connections: 1, pipelining: 1 }) },
    );
    const first = outcome();
    await isAsked.promise;
    const second = call();
    while (passed.length < 2) await setTimeout(5);
    second.destroy();
    await once(passed[1]!.response, 'close');
    // At once, and not when its turn would have come.
    assert.deepEqual(await passed[1]!.done, { end: 'hung up' });
    assert.deepEqual([passed[1]!.pump.status, passed[1]!.pump.bytes], [0, 0]);
    asked[0]!.writeHead(200, SSE).end(DONE);
    assert.equal((await first).text, DONE);
    // A connection that was paused for one who never drains is lost to everybody.
    const { bytes, isWhole } = await outcome();
    assert.ok(isWhole && bytes.length > 200_000);
    assert.equal(asked.length, 2);
  });

  it('and lives through 12 bursts of 32 callers who leave, and answers the next', async () => {
    const { call, outcome, passed } = await between((_, response) => {
      response.writeHead(200, SSE);
      response.write(event('x'.repeat(50_000)));
      if (passed.length > 12 * 32) response.end(DONE);
    });
    for (let burst = 0; burst < 12; burst++) {
      const from = passed.length;
      const requests = Array.from({ length: 32 }, call);
      // Some leave at once, some after the first bytes.
      await Promise.all(requests.slice(0, 16).map((request) => once(request, 'response')));
      for (const request of requests) request.destroy();
      const ends = await Promise.all(passed.slice(from).map(({ done }) => done));
      for (const { end } of ends) assert.equal(end, 'hung up');
    }
    assert.ok(passed.length >= 12 * 16);
    while (passed.length <= 12 * 32) passed.push(passed[0]!);
    const { text, isWhole } = await outcome();
    assert.match(text, /\[DONE\]\n\n$/);
    assert.ok(isWhole);
  });

  it('and takes nothing ill of a caller who left when all was said', async () => {
    const { call, passed } = await between((_, response) => void response.writeHead(200, SSE).end(event('a') + DONE));
    const request = call();
    const { text } = await read(await answerTo(request));
    request.destroy();
    await passed[0]!.reply.closed;
    passed[0]!.pump.abort(new Error('too late'));
    assert.equal(text, event('a') + DONE);
    assert.equal((await passed[0]!.done).end, 'whole');
    assert.ok(passed[0]!.reply.isDelivered);
  });
});

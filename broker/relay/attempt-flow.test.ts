import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import type { Relayed } from './attempt.ts';
import { answerTo, DONE, event, openHops, read, SSE } from './hop.test-support.ts';

const MOST_WAITING = 256 * 1024;

describe('an attempt whose caller reads nothing, while the vendor goes on and on,', () => {
  const hops = openHops();
  const { hop } = hops;
  afterEach(hops.close);

  for (const [what, said] of [
    ['small events', event('a')],
    ['events of 16 KiB', event('x'.repeat(16_384))],
    ['events of 100 KB', event('x'.repeat(100_000))],
    ['small events in another spelling', event('a').replaceAll('\n', '\r\n')],
    ['events with comments between them', `: hi\n\n${event('abc')}`],
  ] as const) {
    it(`holds at most 256 KiB for them, and stops the vendor: ${what}`, async () => {
      const block = Buffer.from(said.repeat(Math.ceil(65_536 / said.length)));
      const vendor = { sent: 0, isEnough: false };
      const { ask, calls } = await hop({
        vendors: [
          async (_, response) => {
            response.writeHead(200, SSE);
            for (; !vendor.isEnough; vendor.sent++) if (!response.write(block)) await once(response, 'drain');
            response.end(DONE);
          },
        ],
        isStream: true,
      });
      const answer = await answerTo(ask());
      const { response } = calls[0]!;
      let most = 0;
      const write = response.write.bind(response) as (...args: unknown[]) => boolean;
      response.write = ((...args: unknown[]) => {
        const goesOn = write(...args);
        most = Math.max(most, response.writableLength);
        return goesOn;
      }) as typeof response.write;
      // How much the buffers of the system hold is not ours to say; they are full when nothing moves any more.
      for (let before = -1; before !== vendor.sent; await setTimeout(100)) before = vendor.sent;
      assert.ok(response.writableNeedDrain);
      assert.ok(most <= MOST_WAITING, `${most} bytes waited`);
      vendor.isEnough = true;
      const { bytes, isWhole } = await read(answer);
      assert.ok(isWhole);
      const plain = said.replaceAll('\r', '').replace(': hi\n\n', '');
      assert.equal((bytes.length - DONE.length) % plain.length, 0);
      assert.equal(((await calls[0]!.end) as Relayed).end, 'whole');
    });
  }
});

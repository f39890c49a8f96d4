import assert from 'node:assert/strict';
import { request } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { revokeAllDevices, revokeDevice } from '../broker/control/devices.ts';
import { invite } from '../broker/control/invites.ts';
import { enrolDesktop, whoAmI, type HeldKey } from './desktop.ts';
import { CHAT, openWorld, type Vendor, type World } from './world.ts';

const BY = { actor: 'operator' };
const WITHIN_MS = 5000;

// Says a word every tenth of a second, for ever.
const endless: Vendor = (_, __, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const chunk = { id: 'c1', object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content: 'a' } }] };
  const timer = setInterval(() => response.write(`data: ${JSON.stringify(chunk)}\n\n`), 100);
  response.once('close', () => clearInterval(timer));
};

/** A stream under way: what has come so far, and when it ended. */
function openStream(world: World, { key }: HeldKey) {
  const { method, target, headers, content } = world.prepare({ key, body: { ...CHAT, stream: true } });
  const stream = { text: '', isWhole: false, ended: Promise.resolve(0), begun: Promise.resolve() };
  const begun = Promise.withResolvers<void>();
  stream.begun = begun.promise;
  stream.ended = new Promise((resolve, reject) => {
    const outgoing = request(
      { host: '127.0.0.1', port: world.port, method, path: target, headers, agent: false },
      (answer) => {
        answer.on('data', (data: Buffer) => {
          stream.text += data.toString();
          begun.resolve();
        });
        answer.on('error', () => {});
        answer.on('close', () => {
          stream.isWhole = answer.complete;
          resolve(performance.now());
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(content);
  });
  return stream;
}

for (const database of ['sqlite', 'postgres'] as const) {
  describe(`revocation, on ${database}`, function () {
    this.timeout(60_000);
    const worlds: World[] = [];
    before(async () => {
      const first = await openWorld({ database, vendor: endless });
      worlds.push(first);
      // A second instance can share a Postgres, and not a file.
      if (first.databaseUrl !== undefined) {
        worlds.push(await openWorld({ database: first.databaseUrl as `postgresql:${string}`, vendor: endless }));
      }
    });
    after(() => Promise.all(worlds.map((world) => world.close())));

    const newDevice = async () => {
      const { code } = await worlds[0]!.withRecords((records) =>
        invite(records, { products: ['product-a'], validMs: 600_000 }, BY),
      );
      return enrolDesktop(worlds[0]!, code);
    };

    it('is known to every instance within five seconds, and ends the streams of the device and no others', async () => {
      const [lost, kept] = [await newDevice(), await newDevice()];
      const streams = worlds.map((world) => ({ lost: openStream(world, lost), kept: openStream(world, kept) }));
      await Promise.all(streams.flatMap((pair) => [pair.lost.begun, pair.kept.begun]));
      const revokedMs = performance.now();
      assert.equal(await worlds[0]!.withRecords((records) => revokeDevice(records, lost.deviceId, 'lost', BY)), true);
      for (const { lost: stream } of streams) {
        const tookMs = (await stream.ended) - revokedMs;
        assert.ok(tookMs < WITHIN_MS, `${tookMs} ms`);
        assert.match(stream.text, /"code":"device_revoked"/);
        assert.ok(!stream.text.includes('[DONE]'));
      }
      console.log(`      known everywhere, streams included, after ${Math.round(performance.now() - revokedMs)} ms`);
      for (const world of worlds) {
        const { status, error } = await whoAmI(world, lost.key);
        assert.deepEqual([status, error.code], [401, 'device_revoked']);
        assert.equal((await whoAmI(world, kept.key)).status, 200);
      }
      for (const { kept: stream } of streams) assert.ok(!stream.text.includes('error'), 'the others go on');
      assert.equal(await worlds[0]!.withRecords((records) => revokeDevice(records, lost.deviceId, 'again', BY)), false);
    });

    it('tells nobody but the holder of the key', async () => {
      const lost = await newDevice();
      await worlds[0]!.withRecords((records) => revokeDevice(records, lost.deviceId, 'lost', BY));
      await setTimeout(2300);
      const stranger = { ...lost.key, key: (await newDevice()).key.key };
      assert.equal((await whoAmI(worlds[0]!, stranger)).error.code, 'signature_invalid');
      assert.equal((await whoAmI(worlds[0]!, lost.key)).error.code, 'device_revoked');
    });

    it('of all shuts everyone out, and lets in who enrols afterwards', async () => {
      const before = [await newDevice(), await newDevice()];
      const count = await worlds[0]!.withRecords((records) => revokeAllDevices(records, 'a laptop with a list', BY));
      assert.ok(count >= 2);
      await setTimeout(2300);
      for (const world of worlds) {
        for (const { key } of before) assert.equal((await whoAmI(world, key)).error.code, 'device_revoked');
      }
      assert.equal((await whoAmI(worlds[0]!, (await newDevice()).key)).status, 200);
      assert.equal(
        (await worlds[0]!.ask({ path: '/v1/models' })).status,
        200,
        'clients of the configuration are no devices',
      );
    });
  });
}

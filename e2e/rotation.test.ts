import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import type { RotateAnswer } from '@sallyport/protocol/enrolment.ts';
import { askForRotation, retireKeys, revokeDevice } from '../broker/control/devices.ts';
import { invite } from '../broker/control/invites.ts';
import {
  askToRotate,
  enrolDesktop,
  FOR_ITSELF,
  newOffer,
  readRotation,
  rotateRequest,
  whoAmI,
  type HeldKey,
} from './desktop.ts';
import { openWorld, type World } from './world.ts';

const BY = { actor: 'operator' };
const MINUTE = 60_000;

for (const database of ['sqlite', 'postgres'] as const) {
  describe(`rotation, on ${database}`, function () {
    this.timeout(120_000);
    let world: World;
    let aheadMs = 0;
    before(async () => {
      world = await openWorld({ database, now: () => Date.now() + aheadMs });
    });
    after(() => world?.close());

    const newDevice = async (algorithm?: 'hmac-sha256' | 'ed25519') => {
      const { code } = await world.withRecords((records) =>
        invite(records, { products: ['product-a'], validMs: 600_000 }, BY),
      );
      return enrolDesktop(world, code, algorithm);
    };
    const rotate = async (held: HeldKey) => {
      const offer = newOffer(held.key.algorithm);
      return readRotation(held, offer, await askToRotate(world, held, offer));
    };
    const works = async ({ key }: HeldKey) => (await whoAmI(world, key)).status === 200;
    const refusal = async ({ key }: HeldKey) => (await whoAmI(world, key)).error.code;
    // What one broker has seen is known to it at once; what was written beside it, within two seconds.
    const untilNoticed = () => setTimeout(2300);
    const entries = (target: string) =>
      world.withRecords(async ({ database: { read } }) => {
        const rows = await read
          .selectFrom('audit_entries')
          .selectAll()
          .where('target', '=', target)
          .orderBy('at')
          .execute();
        return rows.map(({ action, details }) => ({ action, details: JSON.parse(details) as Record<string, unknown> }));
      });

    for (const algorithm of ['hmac-sha256', 'ed25519'] as const) {
      it(`gives a new ${algorithm} key beside the old one, which ends ten minutes after the new one is used`, async () => {
        const first = await newDevice(algorithm);
        const second = await rotate(first);
        assert.notEqual(second.key.keyid, first.key.keyid);
        assert.ok(await works(first), 'before the new one is used');
        aheadMs += 60 * MINUTE;
        assert.ok(await works(first), 'an hour later as well');
        assert.ok(await works(second));
        await untilNoticed();
        aheadMs += 9 * MINUTE;
        assert.ok((await works(first)) && (await works(second)));
        aheadMs += 2 * MINUTE;
        assert.equal(await refusal(first), 'key_retired');
        assert.ok(await works(second));
        await world.withRecords(retireKeys);
        await untilNoticed();
        assert.equal(await refusal(first), 'key_retired');
        assert.equal((await world.chat({}, { key: second.key })).status, 200);
        const told = (await entries(first.deviceId)).filter(({ action }) => action === 'device.clone_suspected');
        assert.deepEqual(
          told.map(({ details }) => details['why']),
          ['a key was used that its device has replaced'],
        );
        assert.deepEqual(
          (await entries(first.key.keyid)).map(({ action }) => action),
          ['key.rotated', 'key.retired'],
        );
      });
    }

    it('ends the old key a day later, when the new one was never used', async () => {
      const first = await newDevice();
      const { text } = await askToRotate(world, first, newOffer());
      const until = Date.parse((JSON.parse(text) as RotateAnswer).previous_until);
      assert.ok(Math.abs(until - (Date.now() + aheadMs) - 24 * 60 * MINUTE) < 10_000);
      await untilNoticed();
      aheadMs += 24 * 60 * MINUTE + 1000;
      assert.equal(await refusal(first), 'key_retired');
    });

    it('answers the same, however often it is asked for the same key', async () => {
      const first = await newDevice();
      const offer = newOffer();
      const answers = await Promise.all(Array.from({ length: 10 }, () => askToRotate(world, first, offer)));
      answers.push(await askToRotate(world, first, offer));
      assert.equal(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size, 1, answers[1]!.text);
      assert.ok(await works(readRotation(first, offer, answers[0]!)));
    });

    it('takes another offer in the place of one whose key was lost before it was used', async () => {
      const first = await newDevice();
      const lost = await rotate(first);
      const second = await rotate(first);
      assert.equal(await refusal(lost), 'key_retired');
      assert.ok((await works(first)) && (await works(second)));
    });

    it('refuses a third key while two are live', async () => {
      const first = await newDevice();
      const second = await rotate(first);
      assert.ok(await works(second));
      for (const held of [first, second]) {
        const { status, error } = await askToRotate(world, held, newOffer());
        assert.deepEqual([status, error.code], [409, 'rotation_underway']);
      }
      aheadMs += 11 * MINUTE;
      assert.ok(await works(await rotate(second)), 'and no longer, once the first is over');
    });

    it('lets exactly one of 16 offers stand that come at once', async () => {
      const first = await newDevice();
      const offers = Array.from({ length: 16 }, () => newOffer());
      const answers = await Promise.all(offers.map((offer) => askToRotate(world, first, offer)));
      const held = offers.flatMap((offer, i) =>
        answers[i]!.status === 200 ? [readRotation(first, offer, answers[i]!)] : [],
      );
      const alive = [];
      for (const one of held) if (await works(one)) alive.push(one);
      assert.equal(alive.length, 1);
      assert.ok(await works(first));
    });

    describe('is refused', () => {
      it('with the mac of another', async () => {
        const [mine, other] = [await newDevice(), await newDevice()];
        const offer = newOffer();
        const body = { ...rotateRequest(mine, offer), mac: rotateRequest(other, offer).mac };
        const asked = { path: '/v1/keys/rotate', key: mine.key, moment: FOR_ITSELF, body };
        assert.equal((await world.ask(asked)).error.code, 'rotation_proof');
      });

      it('with the proof of another key', async () => {
        const mine = await newDevice('ed25519');
        const forged = { ...newOffer('ed25519'), publicKey: newOffer('ed25519').publicKey };
        const body = rotateRequest(mine, forged);
        const asked = { path: '/v1/keys/rotate', key: mine.key, moment: FOR_ITSELF, body };
        assert.equal((await world.ask(asked)).error.code, 'rotation_proof');
      });

      it('from ed25519 to a secret that could not be proven', async () => {
        const mine = await newDevice('ed25519');
        const body = { ...rotateRequest({ ...mine, secret: Buffer.alloc(32) }, newOffer()) };
        const asked = { path: '/v1/keys/rotate', key: mine.key, moment: FOR_ITSELF, body };
        const { status, error } = await world.ask(asked);
        assert.deepEqual([status, error.code, error.param], [400, 'field_invalid', 'alg']);
      });

      it('when it was signed as what an app asks', async () => {
        const mine = await newDevice();
        const body = rotateRequest(mine, newOffer());
        assert.equal(
          (await world.ask({ path: '/v1/keys/rotate', key: mine.key, body })).error.code,
          'signature_malformed',
        );
      });

      it('to a client of the configuration', async () => {
        const body = rotateRequest(await newDevice(), newOffer());
        const { status, error } = await world.ask({ path: '/v1/keys/rotate', moment: FOR_ITSELF, body });
        assert.deepEqual([status, error.code], [403, 'device_required']);
      });

      it('to a device that is revoked meanwhile, and both its keys die', async () => {
        const first = await newDevice();
        const second = await rotate(first);
        await world.withRecords((records) => revokeDevice(records, first.deviceId, 'lost', BY));
        // Before the broker has noticed: the transaction sees it all the same.
        const { error } = await askToRotate(world, first, newOffer());
        assert.equal(error.code, 'device_revoked');
        await untilNoticed();
        assert.deepEqual([await refusal(first), await refusal(second)], ['device_revoked', 'device_revoked']);
      });
    });

    it('may turn a secret into an ed25519 key', async () => {
      const first = await newDevice();
      const offer = newOffer('ed25519');
      assert.ok(await works(readRotation(first, offer, await askToRotate(world, first, offer))));
    });

    it('is asked for by the broker, with every answer until it is done', async () => {
      const first = await newDevice();
      await world.withRecords((records) => askForRotation(records, first.deviceId, BY));
      await untilNoticed();
      const { headers } = await world.chat({}, { key: first.key });
      assert.equal(headers['x-sallyport-rotate'], '1');
      assert.equal(JSON.parse((await whoAmI(world, first.key)).text).rotate, true);
      aheadMs += 1000;
      const second = await rotate(first);
      assert.equal(JSON.parse((await whoAmI(world, second.key)).text).rotate, false);
      assert.equal((await world.chat({}, { key: second.key })).headers['x-sallyport-rotate'], undefined);
    });

    describe('a key that two machines use', () => {
      const say = (held: HeldKey, headers: Record<string, string>) => world.chat({}, { key: held.key, headers });
      const signs = async (held: HeldKey) =>
        (await entries(held.deviceId)).flatMap(({ action, details }) =>
          action === 'device.clone_suspected' ? [details['why']] : [],
        );
      // It is written down beside the request, which does not wait for it.
      const signsInTheEnd = async (held: HeldKey) => {
        for (let asked = 0; asked < 40 && (await signs(held)).length === 0; asked++) await setTimeout(50);
        return signs(held);
      };

      it('is told by another installation, once', async () => {
        const held = await newDevice();
        await say(held, { 'x-sallyport-install': 'inst_0001', 'x-sallyport-boot': 'a' });
        assert.deepEqual(await signs(held), []);
        for (let i = 0; i < 3; i++) await say(held, { 'x-sallyport-install': 'inst_0002' });
        assert.deepEqual(await signsInTheEnd(held), ['another installation uses its key']);
      });

      it('is told by two boots that take turns, and not by one that follows another', async () => {
        const held = await newDevice();
        for (const boot of ['a', 'a', 'b', 'b', 'c']) await say(held, { 'x-sallyport-boot': boot });
        assert.deepEqual(await signs(held), []);
        assert.equal((await say(held, { 'x-sallyport-boot': 'b' })).status, 200, 'it is worth a look, and no proof');
        assert.deepEqual(await signsInTheEnd(held), ['two machines take turns with its key']);
      });
    });
  });
}

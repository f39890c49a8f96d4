import assert from 'node:assert/strict';
import type { EnrolAnswer } from '@sallyport/protocol/enrolment.ts';
import { confirmKey, listDevices, sweepUnheard, UNHEARD_MS } from '../broker/control/devices.ts';
import { forgetInvites, invite } from '../broker/control/invites.ts';
import {
  askChallenge,
  askToEnrol,
  DESKTOP,
  enrolDesktop,
  enrolRequest,
  newOffer,
  readEnrolment,
  whoAmI,
} from './desktop.ts';
import { openWorld, type World } from './world.ts';

const BY = { actor: 'operator' };

for (const database of ['sqlite', 'postgres'] as const) {
  describe(`enrolment, on ${database}`, function () {
    this.timeout(120_000);
    let world: World;
    // Only ever raised: a broker whose clock goes back takes no signature from then.
    let aheadMs = 0;
    before(async () => {
      world = await openWorld({ database, now: () => Date.now() + aheadMs });
    });
    after(() => world?.close());

    const newCode = (more: { products?: string[]; name?: string; email?: string; validMs?: number } = {}) =>
      world
        .withRecords((records) => invite(records, { products: ['product-a'], validMs: 600_000, ...more }, BY))
        .then(({ code }) => code);
    const devices = () => world.withRecords((records) => listDevices(records));
    const actions = (target: string) =>
      world.withRecords(async ({ database: { read } }) => {
        const rows = await read
          .selectFrom('audit_entries')
          .select('action')
          .where('target', '=', target)
          .orderBy('at')
          .execute();
        return rows.map(({ action }) => action);
      });

    for (const algorithm of ['hmac-sha256', 'ed25519'] as const) {
      it(`makes a desktop with a code into a device, by ${algorithm}, and its chats are answered`, async () => {
        const { key, deviceId } = await enrolDesktop(world, await newCode(), algorithm);
        assert.match(key.keyid, /^spk_[0-9a-hjkmnp-tv-z]{26}$/);
        assert.equal((await world.chat({}, { key })).status, 200);
        const { text } = await whoAmI(world, key);
        const { name, products, device_id, key: own, rotate } = JSON.parse(text);
        assert.deepEqual([name, products, device_id, rotate], [DESKTOP.name, ['product-a'], deviceId, false]);
        assert.deepEqual([own.keyid, own.algorithm], [key.keyid, algorithm]);
        assert.deepEqual(await actions(deviceId), ['device.enrolled', 'device.confirmed']);
      });
    }

    it('gives a device the name and the products of its invitation', async () => {
      const code = await newCode({ products: ['product-b', 'limited'], name: 'Reception', email: 'front@example.com' });
      const { key, deviceId } = await enrolDesktop(world, code.toLowerCase().replaceAll('-', ' '));
      assert.equal(
        (
          await world.ask({
            key,
            body: { model: 'echo', messages: [] },
            headers: { 'x-sallyport-product': 'product-b' },
          })
        ).status,
        200,
      );
      assert.equal(
        (await world.chat({}, { key, headers: { 'x-sallyport-product': 'product-a' } })).error.code,
        'product_unknown',
      );
      const found = (await devices()).find(({ device }) => device.id === deviceId)!;
      assert.deepEqual(
        [found.device.name, found.device.email, found.state],
        ['Reception', 'front@example.com', 'active'],
      );
    });

    it('gives the same answer to the same desktop however often its answer is lost, even to 20 at once', async () => {
      const [code, offer] = [await newCode(), newOffer()];
      const answers = await Promise.all(Array.from({ length: 20 }, () => askToEnrol(world, code, offer)));
      answers.push(await askToEnrol(world, code, offer));
      assert.equal(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size, 1, answers[0]!.text);
      const { key } = readEnrolment(code, offer, answers[0]!);
      assert.equal((await whoAmI(world, key)).status, 200);
      // And once more after the first signature, and after the code would have expired.
      aheadMs += 3_600_000;
      assert.equal((await askToEnrol(world, code, offer)).text, answers[0]!.text);
    });

    it('lets one of 64 desktops win a code, and tells the others that it was used', async () => {
      const code = await newCode();
      const before = (await devices()).length;
      const racers = Array.from({ length: 64 }, () => newOffer());
      const answers = await Promise.all(racers.map((offer) => askToEnrol(world, code, offer)));
      const winners = answers.filter(({ status }) => status === 200);
      assert.equal(winners.length, 1);
      for (const { status, error } of answers.filter((one) => one !== winners[0])) {
        assert.deepEqual([status, error.code], [409, 'invite_used']);
      }
      assert.equal((await devices()).length, before + 1);
      const refused = (await actions(code.slice(0, 4).toLowerCase())).filter((action) => action === 'invite.refused');
      assert.equal(refused.length, 63, 'each of them stands in the audit log');
    });

    it('gains nothing for someone who holds a recording of it', async () => {
      const [code, offer] = [await newCode(), newOffer()];
      const challenge = await askChallenge(world);
      const recorded = enrolRequest(code, offer, challenge);
      const first = await world.ask({ path: '/v1/enroll', body: recorded, signed: false });
      const { key } = readEnrolment(code, offer, first);
      const before = (await devices()).length;

      const again = await world.ask({ path: '/v1/enroll', body: recorded, signed: false });
      assert.equal(again.text, first.text, 'it is what the desktop itself would be told');
      assert.equal((await devices()).length, before);
      // What was on the wire, with a key of the thief's own in it.
      const thief = newOffer();
      const altered = { ...recorded, daemon_key: thief.publicKey.toString('base64url') };
      const stolen = await world.ask({ path: '/v1/enroll', body: altered, signed: false });
      assert.equal(stolen.error.code, 'invite_unknown');
      // All that went over the wire, in either direction, holds neither the code nor the secret.
      const wire = JSON.stringify(recorded) + first.text;
      const secret = key.key.export();
      for (const form of ['hex', 'base64', 'base64url'] as const) assert.ok(!wire.includes(secret.toString(form)));
      assert.ok(!wire.toLowerCase().includes(code.replaceAll('-', '').slice(4).toLowerCase()));
      aheadMs += 301_000;
      assert.equal(
        (await world.ask({ path: '/v1/enroll', body: recorded, signed: false })).error.code,
        'challenge_stale',
      );
    });

    describe('is refused', () => {
      type Change = (asked: ReturnType<typeof enrolRequest>, other: ReturnType<typeof enrolRequest>) => object;
      const unknown: [what: string, change: Change][] = [
        ['a code nobody made', (asked) => ({ ...asked, code_id: 'zzzz' })],
        ['the id of another code', (asked, other) => ({ ...asked, code_id: other.code_id })],
        ['another key than the mac covers', (asked, other) => ({ ...asked, daemon_key: other.daemon_key })],
        ['another name than the mac covers', (asked) => ({ ...asked, device: { ...asked.device, name: 'x' } })],
        ['another installation', (asked) => ({ ...asked, device: { ...asked.device, install_id: 'x' } })],
        ['another challenge', (asked, other) => ({ ...asked, challenge: other.challenge })],
        ['the mac of another request', (asked, other) => ({ ...asked, mac: other.mac })],
      ];
      for (const [what, change] of unknown) {
        it(`as unknown: ${what}`, async () => {
          const asked = enrolRequest(await newCode(), newOffer(), await askChallenge(world));
          const other = enrolRequest(await newCode(), newOffer(), await askChallenge(world));
          const { status, error } = await world.ask({ path: '/v1/enroll', body: change(asked, other), signed: false });
          assert.deepEqual([status, error.code], [401, 'invite_unknown']);
        });
      }

      const malformed: [what: string, change: (asked: ReturnType<typeof enrolRequest>) => object, param: string][] = [
        ['no code', (asked) => ({ ...asked, code_id: undefined }), 'code_id'],
        ['a field too many', (asked) => ({ ...asked, secret: 'x' }), ''],
        ['an algorithm there is not', (asked) => ({ ...asked, alg: 'none' }), 'alg'],
        ['a key that is too short', (asked) => ({ ...asked, daemon_key: 'AAAA' }), 'daemon_key'],
        ['a key in another spelling', (asked) => ({ ...asked, daemon_key: `${asked.daemon_key}=` }), 'daemon_key'],
        ['a mac that is too long', (asked) => ({ ...asked, mac: `${asked.mac}AAAA` }), 'mac'],
        ['a name of two lines', (asked) => ({ ...asked, device: { ...asked.device, name: 'a\nb' } }), 'device.name'],
        [
          'a name without end',
          (asked) => ({ ...asked, device: { ...asked.device, name: 'a'.repeat(101) } }),
          'device.name',
        ],
        [
          'a proof where none belongs',
          (asked) => ({ ...asked, proof: Buffer.alloc(64).toString('base64url') }),
          'proof',
        ],
        ['no proof where one belongs', (asked) => ({ ...asked, alg: 'ed25519' }), 'proof'],
      ];
      for (const [what, change, param] of malformed) {
        it(`as malformed: ${what}`, async () => {
          const asked = enrolRequest(await newCode(), newOffer(), await askChallenge(world));
          const { status, error } = await world.ask({ path: '/v1/enroll', body: change(asked), signed: false });
          assert.deepEqual([status, error.code, error.param ?? ''], [400, 'field_invalid', param], error.message);
        });
      }

      it('with a key that is a point of small order, whose secret everybody knows', async () => {
        for (const point of ['00'.repeat(32), `01${'00'.repeat(31)}`, `ec${'ff'.repeat(30)}7f`]) {
          const offer = { ...newOffer(), publicKey: Buffer.from(point, 'hex') };
          const { status, error } = await askToEnrol(world, await newCode(), offer);
          assert.deepEqual([status, error.code, error.param], [400, 'field_invalid', 'daemon_key'], point);
        }
      });

      it('with the proof of another key, and the code stays good', async () => {
        const code = await newCode();
        const offer = newOffer('ed25519');
        const forged = { ...offer, publicKey: newOffer('ed25519').publicKey };
        const { status, error } = await askToEnrol(world, code, forged);
        assert.deepEqual([status, error.code, error.param], [400, 'field_invalid', 'proof']);
        assert.equal((await askToEnrol(world, code, offer)).status, 200);
      });

      it('with a key that a device has already', async () => {
        const offer = newOffer('ed25519');
        assert.equal((await askToEnrol(world, await newCode(), offer)).status, 200);
        const before = (await devices()).length;
        const { status, error } = await askToEnrol(world, await newCode(), offer);
        assert.deepEqual([status, error.code], [409, 'key_known']);
        assert.equal((await devices()).length, before, 'and no half of a device is left');
      });

      it('after its time', async () => {
        const codes = [await newCode({ validMs: 60_000 }), await newCode({ validMs: 60_000 })] as const;
        aheadMs += 58_000;
        assert.equal((await askToEnrol(world, codes[0], newOffer())).status, 200);
        aheadMs += 2_000;
        assert.equal((await askToEnrol(world, codes[1], newOffer())).error.code, 'invite_expired');
      });

      it('with a challenge of nobody’s', async () => {
        for (const challenge of ['', 'AAAA', Buffer.alloc(54).toString('base64url')]) {
          const body = enrolRequest(await newCode(), newOffer(), challenge);
          assert.equal((await world.ask({ path: '/v1/enroll', body, signed: false })).error.code, 'challenge_stale');
        }
      });

      it('with a body of more than 4 KiB', async () => {
        const { status } = await world.ask({ path: '/v1/enroll', body: { x: 'x'.repeat(4096) }, signed: false });
        assert.equal(status, 413);
      });
    });

    it('is undone for a device that is never heard, and not for one that is', async () => {
      const [heard, unheard] = [await enrolDesktop(world, await newCode()), newOffer()];
      const code = await newCode();
      const answer = await askToEnrol(world, code, unheard);
      const { key } = readEnrolment(code, unheard, answer);
      aheadMs += UNHEARD_MS + 1000;
      assert.equal((await world.withRecords(sweepUnheard)) > 0, true);
      assert.equal(await world.withRecords(sweepUnheard), 0);
      const { device_id: id } = JSON.parse(answer.text) as EnrolAnswer;
      assert.equal((await devices()).find(({ device }) => device.id === id)!.state, 'revoked');
      assert.equal((await whoAmI(world, key)).error.code, 'device_revoked');
      assert.equal((await whoAmI(world, heard.key)).status, 200);
      assert.equal(
        (await askToEnrol(world, code, unheard)).error.code,
        'device_revoked',
        'its code is spent all the same',
      );
      assert.deepEqual(await actions(id), ['device.enrolled', 'device.swept']);
    });

    it('does not come back by a first signature that was late', async () => {
      const [code, offer] = [await newCode(), newOffer()];
      const { key, deviceId } = readEnrolment(code, offer, await askToEnrol(world, code, offer));
      const found = (await devices()).find(({ device }) => device.id === deviceId)!;
      aheadMs += UNHEARD_MS + 1000;
      await world.withRecords(sweepUnheard);
      await world.withRecords((records) =>
        confirmKey(records, { key: found.keys[0]!, device: found.device }, 'req_late'),
      );
      assert.equal((await devices()).find(({ device }) => device.id === deviceId)!.state, 'revoked');
      assert.equal((await whoAmI(world, key)).error.code, 'device_revoked');
    });

    it('leaves no invitation lying about for more than a day after its end', async () => {
      await newCode();
      aheadMs += 26 * 3_600_000;
      assert.ok((await world.withRecords(forgetInvites)) > 0);
      assert.equal(await world.withRecords(forgetInvites), 0);
    });

    it('separates what an app asks from what a daemon asks for itself', async () => {
      const { key } = await enrolDesktop(world, await newCode());
      assert.equal((await world.ask({ path: '/v1/whoami', key })).error.code, 'signature_malformed');
      assert.equal(
        (await world.chat({}, { key, moment: { tag: 'sallyport-device-v1' } })).error.code,
        'signature_malformed',
      );
    });

    it('tells a client of the configuration who it is as well', async () => {
      const { text } = await world.ask({
        path: '/v1/whoami',
        client: 'laptop',
        moment: { tag: 'sallyport-device-v1' },
      });
      assert.deepEqual(JSON.parse(text), {
        kind: 'client',
        name: 'laptop',
        products: ['product-a', 'product-b', 'limited'],
      });
    });

    it('is limited for each network address on its own bucket', async () => {
      const narrow = await openWorld({
        database,
        limits: 'limits: { address: { burst: 1000, per_second: 1000 }, enrolment: { burst: 3, per_second: 0.1 } }',
      });
      try {
        const asked = () => narrow.ask({ method: 'POST', path: '/v1/enroll/challenge', signed: false });
        const statuses = [];
        for (let i = 0; i < 5; i++) statuses.push((await asked()).status);
        assert.deepEqual(statuses, [200, 200, 200, 429, 429]);
        assert.equal((await narrow.chat()).status, 200);
      } finally {
        await narrow.close();
      }
    });
  });
}

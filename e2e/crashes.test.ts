import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { listDevices } from '../broker/control/devices.ts';
import { invite } from '../broker/control/invites.ts';
import { askToEnrol, askToRotate, newOffer, readEnrolment, readRotation, whoAmI } from './desktop.ts';
import { openWorld, type Answer, type World } from './world.ts';

// A broker that is killed at any moment, and desktops that go on asking until they are answered, as a daemon does.

const { PROVE } = process.env;
const KILLS = PROVE === 'full' ? 200 : 10;
const DESKTOPS = 6;
const BY = { actor: 'operator' };

for (const database of ['sqlite', 'postgres'] as const) {
  describe(`a broker that is killed, on ${database}`, function () {
    this.timeout(30 * 60_000);
    let world: World;
    let isUp = true;
    before(async () => {
      world = await openWorld({ database, apart: true });
    });
    after(() => world?.close());

    const newCode = () =>
      world
        .withRecords((records) => invite(records, { products: ['product-a'], validMs: 600_000 }, BY))
        .then(({ code }) => code);

    /** Asks until there is an answer: a connection that breaks, and a broker that is not there yet, are no answer. */
    async function untilAnswered(ask: () => Promise<Answer>): Promise<Answer> {
      for (let asked = 0; asked < 2000; asked++) {
        const answer = await ask().catch(() => undefined);
        if (answer !== undefined && answer.status !== 503) return answer;
        await setTimeout(isUp ? 5 : 50);
      }
      throw new Error('the broker did not come back');
    }

    // Enrolling, the first signature, rotating, the first signature of the new key: four commits.
    for (const when of ['before', 'after'] as const) {
      for (const which of [1, 2, 3, 4]) {
        it(`${when} commit ${which} of an enrolment and a rotation leaves nothing that asking again does not mend`, async () => {
          const before = await world.withRecords((records) => listDevices(records));
          const code = await newCode();
          await world.restart({ crash: `${when}:${which}` });
          const { exited } = world.apart!;
          const restarted = exited.then(() => world.restart());
          const offer = newOffer();
          const first = readEnrolment(code, offer, await untilAnswered(() => askToEnrol(world, code, offer)));
          assert.equal((await untilAnswered(() => whoAmI(world, first.key))).status, 200);
          const next = newOffer();
          const second = readRotation(first, next, await untilAnswered(() => askToRotate(world, first, next)));
          for (const { key } of [first, second]) {
            assert.equal((await untilAnswered(() => whoAmI(world, key))).status, 200);
          }
          await restarted;
          assert.deepEqual(await exited, [null, 'SIGKILL'], 'it was killed on the way');
          const devices = await world.withRecords((records) => listDevices(records));
          assert.equal(devices.length, before.length + 1, 'one device, and no half of another');
          const made = devices.find(({ device }) => device.id === first.deviceId)!;
          assert.equal(made.state, 'active');
          assert.deepEqual(
            made.keys.map(({ keyid, state }) => [keyid, state]).toSorted(),
            [
              [first.key.keyid, 'retiring'],
              [second.key.keyid, 'active'],
            ].toSorted(),
          );
        });
      }
    }

    it(`loses nothing that it acknowledged, and every desktop gets there: ${KILLS} times`, async () => {
      const before = new Set(
        (await world.withRecords((records) => listDevices(records))).map(({ device }) => device.id),
      );
      const acknowledged = { devices: new Set<string>(), keys: new Map<string, string>() };
      const work = { isOver: false };
      let refused = 0;

      /** One desktop after the other: from the code to a key that works, and then a new key, each as often as it takes. */
      async function enrolAndRotate(): Promise<void> {
        while (!work.isOver) {
          const code = await newCode();
          const offer = newOffer();
          const answer = await untilAnswered(() => askToEnrol(world, code, offer));
          const first = readEnrolment(code, offer, answer);
          acknowledged.devices.add(first.deviceId);
          assert.equal(
            (await untilAnswered(() => whoAmI(world, first.key))).status,
            200,
            'what was acknowledged works',
          );
          const next = newOffer();
          const second = readRotation(first, next, await untilAnswered(() => askToRotate(world, first, next)));
          // R1: while the daemon does not know which of the two is taken, both are.
          for (const held of [first, second]) {
            const { status, text } = await untilAnswered(() => whoAmI(world, held.key));
            if (status !== 200) refused++;
            assert.equal(status, 200, text);
          }
          acknowledged.keys.set(first.deviceId, second.key.keyid);
        }
      }

      const desktops = Promise.all(Array.from({ length: DESKTOPS }, enrolAndRotate));
      const ended = desktops.then(
        () => 'ended',
        (error: unknown) => error,
      );
      for (let kills = 0; kills < KILLS; kills++) {
        await setTimeout(Math.random() * 400);
        isUp = false;
        await world.restart();
        isUp = true;
        const outcome = await Promise.race([ended, setTimeout(300, 'going on')]);
        if (outcome !== 'going on') throw outcome;
      }
      work.isOver = true;
      await desktops;
      assert.equal(refused, 0);

      const devices = (await world.withRecords((records) => listDevices(records))).filter(
        ({ device }) => !before.has(device.id),
      );
      assert.equal(devices.length, acknowledged.devices.size, 'every code made one device');
      for (const { device, keys } of devices) {
        const newest = keys.find(({ state }) => state === 'active');
        assert.equal(newest?.keyid, acknowledged.keys.get(device.id));
      }
      console.log(
        `      killed ${KILLS} times: ${acknowledged.devices.size} devices enrolled and rotated, none lost, none twice`,
      );
    });
  });
}

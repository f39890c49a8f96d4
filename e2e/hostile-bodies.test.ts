import assert from 'node:assert/strict';
import { HARMLESS_BODIES, REFUSED_BODIES } from './hostile-bodies.ts';
import { BODY, converse, signedBytes, statusesIn, write } from './raw-requests.ts';
import { openWorld, type World } from './world.ts';

describe('a body over a raw socket', () => {
  let world: World;
  before(async () => void (world = await openWorld()));
  after(() => world.close());
  beforeEach(() => void (world.vendor.requests.length = 0));

  for (const [what, shape, status, code] of REFUSED_BODIES) {
    it(`is refused with ${status} ${code} for ${what}`, async () => {
      const said = await converse(world.port, write(world.authority, shape));
      assert.deepEqual(statusesIn(said), [status], said);
      assert.match(said, new RegExp(`"code":"${code}"`));
      assert.equal(world.vendor.requests.length, 0);
      assert.equal((await world.ask({ path: '/liveness', signed: false })).status, 200);
      assert.deepEqual(Object.keys(Object.prototype), []);
    });
  }

  for (const [what, shape, because] of HARMLESS_BODIES) {
    it(`is not harmed by ${what}: ${because}`, async () => {
      assert.deepEqual(statusesIn(await converse(world.port, write(world.authority, shape))), [200]);
      assert.deepEqual(
        world.vendor.requests.map(({ body }) => body),
        [BODY],
      );
      const { host, 'content-length': length, ...headers } = world.vendor.requests[0]!.headers;
      assert.ok(!/evil|product|AAAA|Upgrade/i.test(JSON.stringify(headers)));
      assert.equal(Number(length), BODY.length, host);
    });
  }

  it('is forwarded as it was written where every reader reads it alike', async () => {
    const body =
      '{ "model" : "gpt-4o","messages":[],"max_tokens":5,"constructor":{"prototype":1},"é":"\\ud83d\\ude00 😀"}';
    assert.deepEqual(statusesIn(await converse(world.port, signedBytes(world.authority, { body }))), [200]);
    assert.equal(world.vendor.requests[0]?.body, body);
  });
});

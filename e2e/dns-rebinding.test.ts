import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { PrivateAddressError, type Lookup } from '../broker/outbound/agent.ts';
import { openCanary, reach, toFound, type Canary } from './canary.ts';

// Public by the rules and given to nobody, so that whoever dials it disturbs nobody.
const PUBLIC = '2000::1';

/** Answers each look-up with the next of these, and the last for ever. */
function scripted(...script: [...string[][], string[]]) {
  const asked: string[] = [];
  const lookup: Lookup = (host, _, found) => {
    const addresses = script[Math.min(asked.length, script.length - 1)]!;
    asked.push(host);
    setImmediate(() => found(null, addresses.map(toFound)));
  };
  return { asked, lookup };
}

describe('a name that leads to a private address', () => {
  let canary: Canary;
  before(async () => void (canary = await openCanary()));
  after(() => canary.close());
  beforeEach(() => canary.forget());

  for (const scheme of ['http', 'https']) {
    const url = () => `${scheme}://rebinding.example:${canary.port}`;

    const rows: [what: string, addresses: string[]][] = [
      ['alone', ['127.0.0.1']],
      ['alone, of the other family', ['::1']],
      ['behind a public one', [PUBLIC, '127.0.0.1']],
      ['in front of a public one', ['127.0.0.1', PUBLIC]],
      ['among many', [PUBLIC, '8.8.8.8', '1.1.1.1', '10.0.0.1', '9.9.9.9']],
      ['of the other family, behind a public one', ['8.8.8.8', '::1']],
      ['that is IPv4-mapped', ['::ffff:127.0.0.1']],
      ['that is IPv4-mapped, behind a public one', [PUBLIC, '::ffff:169.254.169.254']],
      ['that has a zone', ['fe80::1%lo']],
      ['that is a name again', ['localhost']],
      ['that is empty', ['']],
    ];
    for (const [what, addresses] of rows) {
      it(`is not dialled over ${scheme}, nor is anything beside it: one ${what}`, async () => {
        const { asked, lookup } = scripted(addresses);
        const outcome = await reach(url(), { lookup });
        assert.ok(outcome instanceof PrivateAddressError, String(outcome));
        assert.deepEqual(asked, ['rebinding.example']);
        assert.deepEqual(canary.dialled, []);
      });
    }

    it(`is not dialled over ${scheme} when it was public at first: what was judged is what is dialled`, async () => {
      const { asked, lookup } = scripted([PUBLIC], ['127.0.0.1']);
      const first = await reach(url(), { lookup, connectTimeoutMs: 50 });
      assert.ok(first instanceof Error && !(first instanceof PrivateAddressError), String(first));
      assert.equal(asked.length, 1, 'it was looked up once');
      assert.deepEqual(canary.dialled, [`${PUBLIC} ${canary.port}`]);
      const second = await reach(url(), { lookup });
      assert.ok(second instanceof PrivateAddressError, String(second));
      assert.equal(asked.length, 2);
      assert.deepEqual(canary.dialled, [`${PUBLIC} ${canary.port}`]);
      assert.deepEqual(canary.heard, []);
    });

    it(`is not dialled over ${scheme} however often it changes`, async () => {
      const turns = Array.from({ length: 20 }, (_, turn) => (turn % 2 === 0 ? ['127.0.0.1'] : [PUBLIC, '::1']));
      const { asked, lookup } = scripted(...turns, ['::1']);
      for (let turn = 0; turn < 20; turn++) {
        const outcome = await reach(url(), { lookup });
        assert.ok(outcome instanceof PrivateAddressError, String(outcome));
      }
      assert.equal(asked.length, 20);
      assert.deepEqual(canary.dialled, []);
    });

    it(`is not dialled over ${scheme} at the end of a chain`, async () => {
      const chain: Record<string, string> = {
        'rebinding.example': 'b.example',
        'b.example': 'c.example',
        'c.example': '::1',
      };
      const follow = (name: string): string => (isIP(name) === 0 ? follow(chain[name]!) : name);
      const outcome = await reach(url(), { lookup: (host, _, found) => found(null, [toFound(follow(host))]) });
      assert.ok(outcome instanceof PrivateAddressError, String(outcome));
      assert.deepEqual(canary.dialled, []);
    });
  }

  it('is dialled where private addresses are allowed, at the address that was found', async () => {
    const { asked, lookup } = scripted(['127.0.0.1']);
    assert.equal(await reach(`http://rebinding.example:${canary.port}`, { lookup, allowPrivate: true }), 'reached');
    assert.deepEqual(asked, ['rebinding.example']);
    assert.deepEqual(canary.dialled, [`127.0.0.1 ${canary.port}`]);
    assert.equal(canary.heard.length, 1);
  });
});

import assert from 'node:assert/strict';
import { limitAddress } from './address.ts';

function gate(mostAddresses?: number) {
  const clock = { ms: 0 };
  const stage = limitAddress({
    pace: { burst: 1, perSecond: 1 },
    elapsedMs: () => clock.ms,
    ...(mostAddresses === undefined ? {} : { mostAddresses }),
  });
  const passes = (address: string) => {
    try {
      stage({ address });
      return true;
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'address_rate');
      return false;
    }
  };
  return { clock, stage, passes };
}

const PAIRS: [first: string, second: string, isOnePlace: boolean][] = [
  ['192.0.2.1', '192.0.2.1', true],
  ['192.0.2.1', '192.0.2.2', false],
  ['2001:db8:1:2::1', '2001:db8:1:2::1', true],
  ['2001:db8:1:2::1', '2001:db8:1:2:ffff:ffff:ffff:ffff', true],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::', true],
  ['2001:db8:1:2::1', '2001:db8:1:3::1', false],
  ['2001:db8::1', '2001:db8:0:0:5::1', true],
  ['2001:db8::1', '2001:db8:0:1::1', false],
  ['2001:db8::1:2:3:4', '2001:db8::1', true],
  ['2001:db8::1:2:3:4:5', '2001:db8::1', false], // 2001:db8:0:1:…
  ['::1', '::2', true],
  ['::1', '192.0.2.1', false],
  ['1::', '2::', false],
];

describe('the bucket of a network address', () => {
  for (const [first, second, isOnePlace] of PAIRS) {
    it(`${isOnePlace ? 'is one' : 'is another'} for ${second} after ${first}`, () => {
      const { passes } = gate();
      assert.equal(passes(first), true);
      assert.equal(passes(second), !isOnePlace);
    });
  }

  it('says how long to wait', () => {
    const { stage, clock, passes } = gate();
    assert.equal(passes('192.0.2.1'), true);
    clock.ms = 1;
    assert.throws(() => stage({ address: '192.0.2.1' }), {
      status: 429,
      headers: { 'retry-after': '1' },
      message: /wait 1 s/,
    });
    clock.ms = 999;
    assert.equal(passes('192.0.2.1'), false);
    clock.ms = 1000;
    assert.equal(passes('192.0.2.1'), true);
  });

  it('forgets the address that was quiet longest when there are too many, and no other', () => {
    const { passes, clock } = gate(2);
    assert.equal(passes('192.0.2.1'), true);
    assert.equal(passes('192.0.2.2'), true);
    clock.ms = 1000;
    assert.equal(passes('192.0.2.1'), true); // now .2 is the one that was quiet longest
    assert.equal(passes('192.0.2.3'), true);
    assert.equal(passes('192.0.2.1'), false);
    assert.equal(passes('192.0.2.3'), false);
    assert.equal(passes('192.0.2.2'), true);
  });

  it('grows for nobody: a flood of addresses costs no memory', () => {
    const { passes } = gate(100);
    for (let i = 0; i < 1000; i++) assert.equal(passes(`2001:db8:${i.toString(16)}::1`), true);
    let known = 0;
    for (let i = 999; i >= 900; i--) if (!passes(`2001:db8:${i.toString(16)}::1`)) known++;
    assert.equal(known, 100);
    assert.equal(passes('2001:db8:1::1'), true);
  });
});

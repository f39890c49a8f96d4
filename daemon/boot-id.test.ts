import assert from 'node:assert/strict';
import { bootIdOf } from './boot-id.ts';

const NOON = 1_767_268_800_000;
const LINUX = {
  installId: 'inst_1',
  platform: 'linux',
  readFile: (path: string) => (path === '/proc/sys/kernel/random/boot_id' ? '11111111-2222\n' : assert.fail(path)),
  now: () => NOON,
  uptimeSeconds: () => 7200,
};
const MAC = { ...LINUX, platform: 'darwin', readFile: (path: string) => assert.fail(path) };

describe('the id of a boot', () => {
  it('is the same as long as the machine runs', () => {
    assert.equal(bootIdOf(LINUX), bootIdOf({ ...LINUX, now: () => NOON + 86_400_000, uptimeSeconds: () => 93_600 }));
    const later = { ...MAC, now: () => NOON + 3_600_250, uptimeSeconds: () => 10_800 };
    assert.equal(bootIdOf(MAC), bootIdOf(later), 'and when the clock was corrected by a little');
  });

  it('is another one after a restart, and for another installation', () => {
    assert.notEqual(bootIdOf(LINUX), bootIdOf({ ...LINUX, readFile: () => '33333333-2222\n' }));
    assert.notEqual(bootIdOf(MAC), bootIdOf({ ...MAC, uptimeSeconds: () => 10 }));
    for (const machine of [LINUX, MAC])
      assert.notEqual(bootIdOf(machine), bootIdOf({ ...machine, installId: 'inst_2' }));
  });

  it('says nothing of the machine itself', () => {
    assert.match(bootIdOf(LINUX), /^[A-Za-z0-9_-]{22}$/);
    assert.ok(!bootIdOf(LINUX).includes('1111'));
  });
});

import assert from 'node:assert/strict';
import { KeychainError, type KeychainTrouble } from './keychain-error.ts';
import { systemItems, type Vault } from './system-items.ts';

// Packages that behave as on systems that are not here. On macOS and Windows nobody is asked how the keychain is.
const on = (platform: NodeJS.Platform, get: () => Promise<string | null>) => {
  const vault: Vault = { get, set: async () => undefined, delete: async () => undefined, tellsLocked: false };
  return systemItems(vault, { platform, environment: {}, installId: 'install-1', limitMs: 20 });
};

function failing(code: KeychainTrouble, pattern: RegExp) {
  return (error: unknown) => error instanceof KeychainError && error.code === code && pattern.test(error.message);
}

describe('the items in the keychain of a system', () => {
  it('are given up when there is no answer in time, and asked for again only when the first call is back', async () => {
    let calls = 0;
    let answer: (value: string | null) => void = () => undefined;
    const items = on('win32', () => {
      calls++;
      return new Promise((resolve) => (answer = resolve));
    });
    await assert.rejects(items.get('device'), failing('failed', /no answer within 0\.02 s/));
    await assert.rejects(items.get('device'), failing('failed', /an earlier call has not come back/));
    assert.equal(calls, 1);
    answer('AAAA');
    await new Promise((resolve) => void setImmediate(resolve));
    const again = items.get('device');
    await new Promise((resolve) => void setImmediate(resolve));
    answer('AQID');
    assert.deepEqual(await again, Buffer.from([1, 2, 3]));
  });

  it('are not there where the system says so, and nobody else is asked', async () => {
    for (const platform of ['darwin', 'win32'] as const) {
      assert.equal(await on(platform, async () => null).get('device'), undefined);
    }
  });

  const troubles: [says: string, code: KeychainTrouble][] = [
    ['User interaction is not allowed.', 'locked'],
    ['Cannot create an item in a locked collection', 'locked'],
    ["Couldn't access platform storage: Secret Service: unlock prompt was dismissed", 'locked'],
    ['The handle is invalid.', 'failed'],
  ];
  for (const [says, code] of troubles) {
    it(`are ${code} when the system says: ${says}`, async () => {
      const items = on('darwin', async () => {
        throw new Error(says);
      });
      await assert.rejects(
        items.get('device'),
        failing(code, code === 'locked' ? /unlock it/ : /handle is invalid.*again/),
      );
    });
  }

  it('belong to one installation', async () => {
    const asked: string[] = [];
    const vault: Vault = {
      get: async (account) => (asked.push(account), null),
      set: async () => undefined,
      delete: async () => undefined,
      tellsLocked: false,
    };
    for (const installId of ['install-1', 'install-2']) {
      await systemItems(vault, { platform: 'darwin', environment: {}, installId }).get('device');
    }
    assert.deepEqual(asked, ['install-1/device', 'install-2/device']);
  });
});

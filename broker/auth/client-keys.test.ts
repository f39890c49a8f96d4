import assert from 'node:assert/strict';
import { createSecretKey, generateKeyPairSync } from 'node:crypto';
import { signBytes, verifiesBytes } from '@sallyport/protocol/keys.ts';
import { Secret } from '@sallyport/protocol/secret.ts';
import { clientKeys } from './client-keys.ts';

describe('the keys of clients', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const bytes = Buffer.alloc(32, 1);
  const find = clientKeys([
    { name: 'desktop', products: ['a'], key: { algorithm: 'hmac-sha256', secret: new Secret(bytes) } },
    { name: 'robot', products: ['a', 'b'], key: { algorithm: 'ed25519', publicKey } },
  ]);

  for (const [name, products, signer] of [
    ['desktop', ['a'], { keyid: 'desktop', algorithm: 'hmac-sha256', key: createSecretKey(bytes) }],
    ['robot', ['a', 'b'], { keyid: 'robot', algorithm: 'ed25519', key: privateKey }],
  ] as const) {
    it(`finds ${name} by its name, with a key that verifies and the caller it speaks for`, () => {
      const row = find(name);
      assert.ok(row);
      assert.deepEqual(row.caller, { kind: 'client', name, keyid: name, products });
      assert.equal(verifiesBytes('words', signBytes('words', signer), row.key), true);
      assert.equal(verifiesBytes('other', signBytes('words', signer), row.key), false);
    });
  }

  for (const keyid of ['', 'Desktop', 'desktop ', 'constructor', '__proto__', 'spk_0123456789abcdefghjkmnpqrs']) {
    it(`knows nobody called ${JSON.stringify(keyid)}`, () => assert.equal(find(keyid), undefined));
  }
});

import assert from 'node:assert/strict';
import { ed25519PrivateKey, ed25519PublicKey, hmacKey, signBytes, verifiesBytes, type SigningKey } from './keys.ts';
import { ED25519, hmacPair, type KeyPair } from './random-requests.test-support.ts';

const hex = (text: string) => Buffer.from(text, 'hex');
const littleEndian = (bytes: Buffer) => bytes.reduceRight((sum, byte) => (sum << 8n) + BigInt(byte), 0n);

// RFC 4231, test case 2.
const jefe = hmacPair(Buffer.from('Jefe'), 'jefe');
const question = 'what do ya want for nothing?';

// RFC 8032, section 7.1: TEST 1 signs nothing at all, TEST 2 the one byte 0x72. (Later ones are not text, which is all we sign.)
const rfc8032: [name: string, secret: string, publicKey: string, message: string, signature: string][] = [
  [
    'TEST 1',
    '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    '',
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  ],
  [
    'TEST 2',
    '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    'r',
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  ],
];

describe('keys', () => {
  it('gives the HMAC-SHA256 of RFC 4231', () => {
    const signature = signBytes(question, jefe.signer);
    assert.equal(signature.toString('hex'), '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843');
    assert.equal(verifiesBytes(question, signature, jefe.verifier), true);
    assert.equal(verifiesBytes(question, signature, hmacKey(Buffer.from('jefe'))), false);
  });

  for (const [name, secret, publicKey, message, signature] of rfc8032) {
    it(`gives the Ed25519 signature of RFC 8032, ${name}`, () => {
      const signer: SigningKey = { keyid: 'robot', algorithm: 'ed25519', key: ed25519PrivateKey(hex(secret)) };
      assert.equal(signBytes(message, signer).toString('hex'), signature);
      assert.equal(verifiesBytes(message, hex(signature), ed25519PublicKey(hex(publicKey))), true);
      assert.equal(verifiesBytes(`${message}.`, hex(signature), ed25519PublicKey(hex(publicKey))), false);
    });
  }

  it('signs text as UTF-8, alike under both algorithms', () => {
    for (const pair of [jefe, ED25519]) {
      assert.equal(verifiesBytes('é', signBytes('é', pair.signer), pair.verifier), true);
      assert.equal(verifiesBytes('Ã©', signBytes('é', pair.signer), pair.verifier), false);
    }
  });

  const pairs: [name: string, pair: KeyPair, length: number][] = [
    ['hmac-sha256', jefe, 32],
    ['ed25519', ED25519, 64],
  ];
  for (const [name, pair, length] of pairs) {
    it(`refuses a signature of ${name} with any one bit changed`, () => {
      const signature = signBytes(question, pair.signer);
      assert.equal(signature.length, length);
      assert.equal(verifiesBytes(question, signature, pair.verifier), true);
      for (let bit = 0; bit < length * 8; bit++) {
        const other = Buffer.from(signature);
        other[bit >> 3]! ^= 1 << (bit & 7);
        assert.equal(verifiesBytes(question, other, pair.verifier), false, `bit ${bit}`);
      }
    });

    it(`refuses a signature of ${name} of any other length, without a throw`, () => {
      const signature = signBytes(question, pair.signer);
      for (let cut = 0; cut < length; cut++) {
        assert.equal(verifiesBytes(question, signature.subarray(0, cut), pair.verifier), false, `${cut} bytes`);
        assert.equal(verifiesBytes(question, signature.subarray(cut + 1), pair.verifier), false, `without ${cut + 1}`);
      }
      for (const tail of [Buffer.alloc(1), signature]) {
        assert.equal(verifiesBytes(question, Buffer.concat([signature, tail]), pair.verifier), false);
      }
    });

    it(`refuses a signature of ${name} that is all one byte`, () => {
      for (const byte of [0, 1, 0x7f, 0xff]) {
        assert.equal(verifiesBytes(question, Buffer.alloc(length, byte), pair.verifier), false, `${byte}`);
      }
    });
  }

  it('refuses the second signature that Ed25519 has for every message, S plus the order of the group', () => {
    const order = (1n << 252n) + 27742317777372353535851937790883648493n;
    const signature = signBytes(question, ED25519.signer);
    const second = Buffer.from(signature);
    let rest = littleEndian(signature.subarray(32)) + order;
    for (let at = 32; at < 64; at++) {
      second[at] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    assert.equal(rest, 0n);
    assert.equal(verifiesBytes(question, signature, ED25519.verifier), true);
    assert.equal(verifiesBytes(question, second, ED25519.verifier), false);
  });

  it('refuses an Ed25519 key of any length but 32 bytes', () => {
    for (const length of [0, 1, 31, 33, 64]) {
      assert.throws(() => ed25519PublicKey(Buffer.alloc(length, 3)), `public, ${length}`);
      assert.throws(() => ed25519PrivateKey(Buffer.alloc(length, 3)), `private, ${length}`);
    }
    assert.equal(ed25519PublicKey(Buffer.alloc(32, 3)).algorithm, 'ed25519');
    assert.equal(ed25519PrivateKey(Buffer.alloc(32, 3)).asymmetricKeyType, 'ed25519');
  });
});

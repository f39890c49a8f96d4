import assert from 'node:assert/strict';
import { createSecretKey, randomBytes } from 'node:crypto';
import { decrypt, encrypt, freshNonce } from './aes-gcm.ts';

const isFull = process.env['PROVE'] === 'full';

// McGrew and Viega, The Galois/Counter Mode of Operation, appendix B: test cases 13 to 16, those with a key of 256 bits.
const KEY = 'feffe9928665731c6d6a8f9467308308'.repeat(2);
const NONCE = 'cafebabefacedbaddecaf888';
const PLAIN =
  'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39';
const ENCRYPTED =
  '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662';
const CASES = [
  [13, '00'.repeat(32), '00'.repeat(12), '', '', '', '530f8afbc74536b9a963b4f1c4cb738b'],
  [
    14,
    '00'.repeat(32),
    '00'.repeat(12),
    '',
    '00'.repeat(16),
    'cea7403d4d606b6e074ec5d3baf39d18',
    'd0d1c8a799996bf0265b98b5d48ab919',
  ],
  [15, KEY, NONCE, '', `${PLAIN}1aafd255`, `${ENCRYPTED}898015ad`, 'b094dac5d93471bdec1a502270e3cc6c'],
  [16, KEY, NONCE, 'feedfacedeadbeeffeedfacedeadbeefabaddad2', PLAIN, ENCRYPTED, '76fc6ece0f4e1768cddf8853bb2d551b'],
] as const;

const bytes = (hex: string) => Buffer.from(hex, 'hex');

describe('AES-256-GCM', () => {
  for (const [number, key, nonce, about, plain, encrypted, tag] of CASES) {
    it(`does as test case ${number} of its authors`, () => {
      const secret = createSecretKey(bytes(key));
      const made = encrypt(secret, bytes(nonce), bytes(about), bytes(plain));
      assert.equal(made.toString('hex'), encrypted + tag);
      assert.deepEqual(decrypt(secret, bytes(nonce), bytes(about), made), bytes(plain));
    });
  }

  it('opens nothing of which a single bit was changed: key, nonce, what it is about, ciphertext or tag', () => {
    const [, key, nonce, about, , encrypted, tag] = CASES[3];
    const parts = [key, nonce, about, encrypted + tag].map(bytes);
    const open = ([k, n, a, e] = parts) => decrypt(createSecretKey(k!), n!, a!, e!);
    assert.ok(open());
    let flips = 0;
    for (const [which, part] of parts.entries()) {
      for (let bit = 0; bit < part.length * 8; bit++) {
        const changed = parts.map((one) => Buffer.from(one));
        changed[which]![bit >> 3]! ^= 1 << (bit & 7);
        assert.equal(open(changed), undefined, `part ${which}, bit ${bit}`);
        flips++;
      }
    }
    assert.equal(flips, 8 * (32 + 12 + 20 + 60 + 16));
  });

  it('opens nothing that was cut short, and takes no nonce of another length', () => {
    const key = createSecretKey(randomBytes(32));
    const about = Buffer.from('about');
    const nonce = freshNonce();
    const whole = encrypt(key, nonce, about, Buffer.from('something'));
    for (let length = 0; length < whole.length; length++) {
      assert.equal(decrypt(key, nonce, about, whole.subarray(0, length)), undefined, `${length} bytes`);
    }
    // Sealed properly, by someone with the key, but not as we do.
    const long = randomBytes(16);
    assert.equal(decrypt(key, long, about, encrypt(key, long, about, Buffer.from('something'))), undefined);
    assert.equal(decrypt(key, Buffer.alloc(0), about, whole), undefined);
  });

  const nonces = isFull ? 10_000_000 : 1_000_000;
  it(`never repeats a nonce: ${nonces.toLocaleString('en')}, of which not even the first 64 bits are alike`, () => {
    const firsts = new BigUint64Array(nonces);
    for (let i = 0; i < nonces; i++) {
      const nonce = freshNonce();
      if (nonce.length !== 12) assert.fail('a nonce has 96 bits');
      firsts[i] = nonce.readBigUInt64BE();
    }
    firsts.sort();
    let repeated = 0;
    for (let i = 1; i < nonces; i++) if (firsts[i] === firsts[i - 1]) repeated++;
    assert.equal(repeated, 0);
  });
});

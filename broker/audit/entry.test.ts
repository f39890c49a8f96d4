import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { beginningOf, encode, hashOfEntry, type HashedEntry } from './entry.ts';

const ENTRY: HashedEntry = {
  chain: 'broker-1',
  n: 2,
  at: 1_700_000_000_000,
  actor: 'person:a',
  action: 'device.renamed',
  target: 'dev_1',
  details: '{"to":"名"}',
  request_id: null,
};

describe('the hash of an entry', () => {
  // By hand, as someone would who only has the documentation.
  const field = (text: string) => {
    const bytes = Buffer.from(text, 'utf8');
    return `${bytes.length.toString(16).padStart(8, '0')}${bytes.toString('hex')}`;
  };
  const hash = (hex: string) => createHash('sha256').update(Buffer.from(hex, 'hex')).digest('hex');

  it('is SHA-256 over each field after its length', () => {
    const previous = 'ab'.repeat(32);
    const fields = [
      'sallyport/audit-entry/v1',
      previous,
      'broker-1',
      '2',
      '1700000000000',
      'person:a',
      'device.renamed',
      'dev_1',
      '{"to":"名"}',
    ];
    assert.equal(hashOfEntry(previous, ENTRY), hash(`${fields.map(field).join('')}ffffffff`));
  });

  it('begins with the name and the start of the chain', () => {
    const hex = ['sallyport/audit-chain/v1', 'broker-1', '17'].map(field).join('');
    assert.equal(beginningOf({ id: 'broker-1', started_at: 17 }), hash(hex));
  });

  const changes: Partial<HashedEntry>[] = [
    { chain: 'broker-2' },
    { n: 3 },
    { at: 1_700_000_000_001 },
    { actor: 'person:b' },
    { action: 'device.revoked' },
    { target: 'dev_2' },
    { details: '{"to": "名"}' },
    { request_id: '' },
    { request_id: 'null' },
    { actor: 'person:', action: 'adevice.renamed' },
  ];
  for (const change of changes) {
    it(`is another one with ${JSON.stringify(change)}`, () => {
      assert.notEqual(hashOfEntry('', { ...ENTRY, ...change }), hashOfEntry('', ENTRY));
    });
  }

  it('is another one after another entry', () => {
    assert.notEqual(hashOfEntry('a', ENTRY), hashOfEntry('b', ENTRY));
  });

  it('keeps apart what is null, what is empty, and where one field ends', () => {
    const lists = [[''], [null], ['a', 'b'], ['ab'], ['ab', ''], ['', 'ab'], ['a\0\0\0\x01b'], []];
    const encoded = lists.map((list) => encode(list).toString('hex'));
    assert.equal(new Set(encoded).size, lists.length);
  });
});

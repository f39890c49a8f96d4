import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { contentDigest, digestMatches, isReadableDigest } from './content-digest.ts';

const body = Buffer.from('{"hello": "world"}');
const sha256 = hash('sha256', body, 'base64');
const sha512 = hash('sha512', body, 'base64');

// The first two are the examples of RFC 9530, Appendix D.
const table: [header: string, readable: boolean, matches: boolean, why: string][] = [
  ['sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:', true, true, 'the sha-256 of RFC 9530'],
  [`sha-512=:${sha512}:`, true, true, 'sha-512 alone'],
  [`sha-256=:${sha256}:, sha-512=:${sha512}:`, true, true, 'both'],
  [`md5=:AAAA:, sha-256=:${sha256}:`, true, true, 'an unknown name beside a known one'],
  [`sha-256=:${sha256}:, sha-512=:${hash('sha512', 'other', 'base64')}:`, true, false, 'one of two wrong'],
  [contentDigest(Buffer.from('other')), true, false, 'of another body'],
  ['md5=:AAAA:', false, false, 'nothing we can check'],
  [`sha-256=:${sha256.replace('=', '')}:`, false, false, 'padding dropped'],
  [`sha-256=:${sha256.replace('E=', 'F=')}:`, false, false, 'a last character that decodes to the same bytes'],
  [` sha-256=:${sha256}:`, false, false, 'a space before'],
  [`sha-256=:${sha256}: `, false, false, 'a space behind'],
  [`SHA-256=:${sha256}:`, false, false, 'upper case'],
  [`sha-256="${sha256}"`, false, false, 'a string for bytes'],
  [`sha-256=:${sha256}:,sha-512=:${sha512}:`, false, false, 'no space after the comma'],
  [`sha-256=:${sha256}:, sha-256=:${sha256}:`, false, false, 'one name twice'],
  ['sha-256=:AAAA:', true, false, 'too few bytes'],
  ['', false, false, 'empty'],
];

describe('Content-Digest', () => {
  for (const [header, readable, matches, why] of table) {
    it(`${readable ? 'reads' : 'does not read'} and ${matches ? 'matches' : 'does not match'}: ${why}`, () => {
      assert.equal(isReadableDigest(header), readable);
      assert.equal(digestMatches(header, body), matches);
    });
  }
});

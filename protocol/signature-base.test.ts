import assert from 'node:assert/strict';
import { createPublicKey, createSecretKey } from 'node:crypto';
import { signBytes, verifiesBytes } from './keys.ts';
import { signatureBase } from './signature-base.ts';

// The request of RFC 9421, Appendix B.2.
const request = {
  method: 'POST',
  authority: 'example.com',
  path: '/foo',
  query: '?param=Value&Pet=dog',
  fields: new Map([
    ['date', 'Tue, 20 Apr 2021 02:07:55 GMT'],
    ['content-type', 'application/json'],
    ['content-length', '18'],
  ]),
};

describe('signature base', () => {
  it('gives the signature of RFC 9421 B.2.5', () => {
    const text = '("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"';
    const base = signatureBase(['date', '@authority', 'content-type'], text, request);
    assert.equal(
      base,
      '"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@authority": example.com\n"content-type": application/json\n' +
        `"@signature-params": ${text}`,
    );
    const secret = 'uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==';
    const key = createSecretKey(Buffer.from(secret, 'base64'));
    assert.equal(
      signBytes(base, { keyid: 'test-shared-secret', algorithm: 'hmac-sha256', key }).toString('base64'),
      'pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=',
    );
  });

  it('accepts the signature of RFC 9421 B.2.6', () => {
    const components = ['date', '@method', '@path', '@authority', 'content-type', 'content-length'];
    const text = `(${components.map((name) => `"${name}"`).join(' ')});created=1618884473;keyid="test-key-ed25519"`;
    const x = 'JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs';
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
    const signature = Buffer.from(
      'wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==',
      'base64',
    );
    const base = signatureBase(components, text, request)!;
    assert.equal(verifiesBytes(base, signature, { algorithm: 'ed25519', key }), true);
    assert.equal(verifiesBytes(`${base} `, signature, { algorithm: 'ed25519', key }), false);
  });

  it('signs an absent query as a lone question mark, and the target as it stands', () => {
    const base = signatureBase(['@query', '@request-target'], '()', { ...request, query: '' });
    assert.equal(base, '"@query": ?\n"@request-target": /foo\n"@signature-params": ()');
  });

  for (const component of ['@query-param', '@status', '@target-uri', 'absent']) {
    it(`has no value for ${component}`, () => assert.equal(signatureBase([component], '()', request), undefined));
  }
});

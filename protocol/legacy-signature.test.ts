import assert from 'node:assert/strict';
import { createHmac, createSecretKey } from 'node:crypto';
import { legacySignature, type LegacyRequest } from './legacy-signature.ts';
import vectors from './signature.vectors.json' with { type: 'json' };

const key = createSecretKey(Buffer.from('shared-secret-123-shared-secret-123'));
const request: LegacyRequest = {
  method: 'POST',
  path: '/v1/chat/product-a',
  query: 'a=1&b=2',
  timestamp: '1767225600',
  clientId: 'desktop',
  body: Buffer.from('{}'),
  nonce: 'once',
};

describe('the older header scheme', () => {
  for (const vector of vectors.legacy) {
    it(`gives the published signature: ${vector.name}`, () => {
      const { method, path, query, timestamp, client_id: clientId, secret } = vector;
      const body = Buffer.from(vector.body);
      const given = legacySignature(
        { method, path, query, timestamp, clientId, body },
        createSecretKey(Buffer.from(secret)),
      );
      assert.equal(given, vector.signature);
    });
  }

  it('signs the lines that docs/protocol.md shows, the nonce last and no line feed behind', () => {
    const lines =
      'SALLYPORT-LEGACY-1\nPOST\n/v1/chat/product-a\na=1&b=2\n1767225600\ndesktop\n' +
      '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\nonce';
    assert.equal(legacySignature(request, key), `v1=${createHmac('sha256', key).update(lines).digest('hex')}`);
  });

  it('reads a secret beyond ASCII as UTF-8, as every other language does', () => {
    const { nonce: _, ...withoutNonce } = { ...request, query: '', body: Buffer.alloc(0) };
    const lines =
      'SALLYPORT-LEGACY-1\nPOST\n/v1/chat/product-a\n\n1767225600\ndesktop\n' +
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
    const secret = 'Schlüssel-Schlüssel-Schlüssel-12';
    assert.equal(
      legacySignature(withoutNonce, createSecretKey(Buffer.from(secret))),
      `v1=${createHmac('sha256', secret).update(lines).digest('hex')}`,
    );
  });

  const { nonce: _, ...withoutNonce } = request;
  const changes: [what: string, changed: LegacyRequest][] = [
    ['the method', { ...request, method: 'PUT' }],
    ['the case of the method', { ...request, method: 'post' }],
    ['the path', { ...request, path: '/v1/chat/product-b' }],
    ['a slash behind the path', { ...request, path: '/v1/chat/product-a/' }],
    ['the query', { ...request, query: 'a=1&b=3' }],
    ['the order in the query', { ...request, query: 'b=2&a=1' }],
    ['the absence of the query', { ...request, query: '' }],
    ['the question mark', { ...request, query: '?a=1&b=2' }],
    ['a query that became path', { ...request, path: '/v1/chat/product-a?a=1&b=2', query: '' }],
    ['the timestamp', { ...request, timestamp: '1767225601' }],
    ['the client', { ...request, clientId: 'desktop2' }],
    ['a digit moved from client to timestamp', { ...request, timestamp: '1767225600d', clientId: 'esktop' }],
    ['the body', { ...request, body: Buffer.from('{ }') }],
    ['the absence of the body', { ...request, body: Buffer.alloc(0) }],
    ['the nonce', { ...request, nonce: 'twice' }],
    ['an empty nonce', { ...request, nonce: '' }],
    ['the absence of the nonce', withoutNonce],
  ];
  it('changes with everything that is signed, each time to something else', () => {
    const seen = new Map([[legacySignature(request, key), 'the request itself']]);
    for (const [what, changed] of changes) {
      const given = legacySignature(changed, key);
      assert.equal(seen.get(given), undefined, `${what} is signed`);
      assert.match(given, /^v1=[0-9a-f]{64}$/);
      seen.set(given, what);
    }
    assert.notEqual(legacySignature(request, createSecretKey(Buffer.from('another'))), legacySignature(request, key));
  });
});

import { createHmac, hash, type KeyObject } from 'node:crypto';

/** The request as the older header scheme signs it: X-Client-ID, X-Timestamp, X-Signature and, when given, X-Nonce. */
export type LegacyRequest = {
  method: string;
  path: string;
  /** What follows the `?`, or the empty string: an empty line is signed for it. */
  query: string;
  timestamp: string;
  clientId: string;
  body: Uint8Array;
  nonce?: string;
};

/**
 * The X-Signature of the scheme that the API key server named but never spelled out. It is for migration only:
 * the body has to be read before anything is proven, and without X-Nonce two equal requests in one second collide.
 */
export function legacySignature(request: LegacyRequest, key: KeyObject): string {
  const lines = [
    'SALLYPORT-LEGACY-1',
    request.method,
    request.path,
    request.query,
    request.timestamp,
    request.clientId,
    hash('sha256', request.body, 'hex'),
  ];
  if (request.nonce !== undefined) lines.push(request.nonce);
  return `v1=${createHmac('sha256', key).update(lines.join('\n')).digest('hex')}`;
}

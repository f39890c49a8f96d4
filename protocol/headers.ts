/** The name of every header that Sallyport adds or reads, in lower case as they are compared. */
export const HEADER = {
  // The signature (RFC 9421, RFC 9530).
  signature: 'signature',
  signatureInput: 'signature-input',
  contentDigest: 'content-digest',
  contentType: 'content-type',
  idempotencyKey: 'idempotency-key',

  // What a caller may say. Every header with our prefix is covered by the signature when it is present.
  product: 'x-sallyport-product',
  app: 'x-sallyport-app',
  install: 'x-sallyport-install',
  boot: 'x-sallyport-boot',
  maxCost: 'x-sallyport-max-cost',

  // What the broker says.
  time: 'x-sallyport-time',
  overheadMs: 'x-sallyport-overhead-ms',
  rotate: 'x-sallyport-rotate',
  droppedParams: 'x-sallyport-dropped-params',
  requestId: 'x-request-id',
  idempotentReplayed: 'idempotent-replayed',
  shouldRetry: 'x-should-retry',
  retryAfter: 'retry-after',
  retryAfterMs: 'retry-after-ms',
  limitRequests: 'x-ratelimit-limit-requests',
  remainingRequests: 'x-ratelimit-remaining-requests',
  resetRequests: 'x-ratelimit-reset-requests',
} as const;

/** Headers with this prefix decide what a request may do, so none of them may travel outside the signature. */
export const OUR_PREFIX = 'x-sallyport-';

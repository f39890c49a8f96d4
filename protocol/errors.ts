type ErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'not_found_error'
  | 'rate_limit_error'
  | 'api_error';

type ErrorRow = { status: number; type: ErrorType; says: string };

/**
 * Every error a caller can meet. Programs rely on the code, people read the sentence, and the sentence says what to do next.
 * `{words}` in a sentence are filled from the facts given where the error is thrown.
 */
export const ERRORS = {
  // Is this a request we can read at all? (edge)
  request_malformed: {
    status: 400,
    type: 'invalid_request_error',
    says: 'This is not an HTTP/1.1 request that can be read; check the client or the proxy that wrote it.',
  },
  request_timeout: {
    status: 408,
    type: 'invalid_request_error',
    says: 'The request did not arrive in time; send it again on a new connection.',
  },
  headers_too_large: {
    status: 431,
    type: 'invalid_request_error',
    says: 'The headers are larger than 16 KiB, or too many; send fewer or shorter ones.',
  },
  // Here and at transfer_coding_unsupported RFC 9110 has 505 and 501. They would let any stranger set off the alarms that watch for 5xx.
  http_version_unsupported: {
    status: 400,
    type: 'invalid_request_error',
    says: 'This broker speaks HTTP/1.1 and HTTP/1.0; send the request in one of them.',
  },
  target_malformed: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The request target is not accepted: {why}. Ask for a plain path such as /v1/chat/completions.',
  },
  header_repeated: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The header {header} was sent more than once; send it exactly once.',
  },
  host_unknown: {
    status: 421,
    type: 'invalid_request_error',
    says: 'This broker does not answer to that Host. Use the address in its public_url, or add yours to public_authorities.',
  },
  host_unproven: {
    status: 421,
    type: 'invalid_request_error',
    says: 'This broker has no public_url, so it cannot tell which host was signed, and takes signatures over loopback only; set public_url to the address its daemons dial.',
  },
  route_unknown: {
    status: 404,
    type: 'not_found_error',
    says: 'There is nothing at {method} {path}. Check the base URL: it usually ends in /v1 or /p/{{product}}/v1.',
  },
  method_unsupported: {
    status: 405,
    type: 'invalid_request_error',
    says: '{path} does not take {method}; use {allowed}.',
  },
  connection_malformed: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The header Connection names {header}, which a proxy would have to remove; leave it out of Connection.',
  },
  transfer_coding_unsupported: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The only Transfer-Encoding that is taken is chunked, alone; send the body so, or with its Content-Length.',
  },
  upgrade_unsupported: {
    status: 400,
    type: 'invalid_request_error',
    says: 'This address does not switch protocols; send a plain HTTP request.',
  },
  expectation_unsupported: {
    status: 417,
    type: 'invalid_request_error',
    says: 'The only expectation served is 100-continue; leave the Expect header out.',
  },
  body_unexpected: {
    status: 400,
    type: 'invalid_request_error',
    says: 'A {method} request must not have a body; leave the body, Content-Type and Content-Digest out.',
  },
  body_missing: { status: 400, type: 'invalid_request_error', says: 'The request has no body; send a JSON object.' },
  body_too_large: {
    status: 413,
    type: 'invalid_request_error',
    says: 'The body is larger than {limit} bytes; send less, or ask the operator to raise limits.body_bytes.',
  },
  body_crumbled: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The body came in more than {pieces} pieces; send larger chunks, or the whole with its Content-Length.',
  },
  body_incomplete: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The connection ended before the whole body arrived; send the request again.',
  },
  body_encoded: {
    status: 415,
    type: 'invalid_request_error',
    says: 'Compressed request bodies are not accepted; send the body without Content-Encoding.',
  },
  content_type_unsupported: {
    status: 415,
    type: 'invalid_request_error',
    says: 'This address takes application/json; set Content-Type accordingly.',
  },
  json_malformed: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The body is not JSON that can be accepted: {why} at byte {at}.',
  },
  address_rate: {
    status: 429,
    type: 'rate_limit_error',
    says: 'Too many requests from this network address; wait {seconds} s and try again.',
  },

  // Who is calling? Before the signature is proven an answer says nothing that helps to guess. (auth)
  signature_required: {
    status: 401,
    type: 'authentication_error',
    says: 'This request is not signed. Send it through the Sallyport daemon, or sign it as docs/protocol.md shows.',
  },
  signature_malformed: {
    status: 401,
    type: 'authentication_error',
    says: 'The signature cannot be read: {why}. See docs/protocol.md for the one accepted form.',
  },
  signature_invalid: {
    status: 401,
    type: 'authentication_error',
    says: 'The signature does not match this request; check the key, and that nothing on the way changes the method, host, path or signed headers.',
  },
  signature_window: {
    status: 401,
    type: 'authentication_error',
    says: 'The signature is outside its time window; check the clock of this machine. The broker’s time is in x-sallyport-time; sign again and retry.',
  },
  signature_replayed: {
    status: 401,
    type: 'authentication_error',
    says: 'This signature was used before; sign every attempt anew, with a new nonce.',
  },
  signature_flood: {
    status: 429,
    type: 'rate_limit_error',
    says: 'This key has too many signatures in flight; wait {seconds} s and try again.',
  },
  signature_store_full: {
    status: 503,
    type: 'api_error',
    says: 'The broker cannot remember more signatures right now; wait {seconds} s and try again.',
  },
  device_revoked: {
    status: 401,
    type: 'authentication_error',
    says: 'This device was revoked. Ask an administrator for a new code, and enrol it again: sallyport enroll.',
  },
  key_retired: {
    status: 401,
    type: 'authentication_error',
    says: 'This key was replaced by a newer one. Restart the daemon, so that it signs with that; if it has none, enrol again: sallyport enroll.',
  },
  device_required: {
    status: 403,
    type: 'permission_error',
    says: 'Only an enrolled device has a key that can be rotated; the key of the client {client} stands in the configuration.',
  },
  digest_mismatch: {
    status: 401,
    type: 'authentication_error',
    says: 'The body is not the one that was signed; something on the way changed it, or Content-Digest was computed over other bytes.',
  },

  // How a desktop comes to be known. Without the right code nobody learns whether there is an invitation. (control)
  invite_unknown: {
    status: 401,
    type: 'authentication_error',
    says: 'There is no open invitation for this code. Check it for typing mistakes, or ask an administrator for a new one.',
  },
  invite_expired: {
    status: 401,
    type: 'authentication_error',
    says: 'This code has expired; ask an administrator for a new one.',
  },
  invite_used: {
    status: 409,
    type: 'invalid_request_error',
    says: 'This code was already used by another desktop. If that was not you, tell an administrator: the device should be revoked. Then ask for a new code.',
  },
  challenge_stale: {
    status: 401,
    type: 'authentication_error',
    says: 'The challenge of this enrolment is older than five minutes, or not ours; ask for a new one and try again.',
  },
  key_known: {
    status: 409,
    type: 'invalid_request_error',
    says: 'This key is in use by a device already; make a new one and try again.',
  },
  rotation_proof: {
    status: 401,
    type: 'authentication_error',
    says: 'The new key is not proven: the mac or proof does not match. Start the rotation again.',
  },
  rotation_underway: {
    status: 409,
    type: 'invalid_request_error',
    says: 'This device has two live keys already; wait until {until}, or finish the rotation that is under way with its newer key.',
  },

  // May they, and how much? (policy, limits)
  product_required: {
    status: 400,
    type: 'invalid_request_error',
    says: 'This key may use several products ({products}); name one in the path /p/{{product}}/v1 or in the header x-sallyport-product.',
  },
  product_conflict: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The path names the product {path} and the header names {header}; name one, or the same twice.',
  },
  product_unknown: {
    status: 404,
    type: 'not_found_error',
    says: 'There is no product {product} for this key; check the spelling, or ask for access.',
  },
  field_invalid: { status: 400, type: 'invalid_request_error', says: '{field} {why}.' },
  model_not_allowed: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The model {model} is not among those of the product {product}; GET /v1/models lists what this key may use.',
  },
  model_unserved: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The product {product} allows {model}, but no provider of this broker serves it; add it to a provider’s models.',
  },
  max_tokens_exceeded: {
    status: 400,
    type: 'invalid_request_error',
    says: '{field} is {asked}, above the {limit} that the product {product} allows; ask for {limit} or fewer.',
  },
  temperature_out_of_range: {
    status: 400,
    type: 'invalid_request_error',
    says: 'temperature is {asked}, outside {from} to {to} that the product {product} allows.',
  },
  rate_limited: {
    status: 429,
    type: 'rate_limit_error',
    says: 'The product {product} allows this key {rate}; wait {seconds} s and try again.',
  },
  quota_exhausted: {
    status: 429,
    type: 'rate_limit_error',
    says: 'The product {product} allows this key {quota} requests a day and they are used up; the next day begins at 00:00 UTC, in {seconds} s.',
  },

  // What the provider did. (relay)
  upstream_unreachable: {
    status: 502,
    type: 'api_error',
    says: 'The model provider could not be reached; try again, and tell the operator if it stays so.',
  },
  upstream_timeout: {
    status: 504,
    type: 'api_error',
    says: 'The model provider did not answer in {seconds} s; try again.',
  },
  upstream_failed: {
    status: 502,
    type: 'api_error',
    says: 'The model provider could not serve this request; try again, and tell the operator if it stays so.',
  },
  upstream_refused: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The model provider refused the request: {why}',
  },
  upstream_busy: {
    status: 429,
    type: 'rate_limit_error',
    says: 'The model provider is limiting requests; wait and try again.',
  },
  upstream_cut: {
    status: 502,
    type: 'api_error',
    says: 'The model provider’s answer broke off before its end; what arrived is incomplete. Try again.',
  },

  upstream_garbled: {
    status: 502,
    type: 'api_error',
    says: 'The model provider sent something that cannot be read as an answer; what arrived is incomplete. Try again, and tell the operator if it stays so.',
  },

  // Asked twice. (relay)
  idempotency_key_malformed: {
    status: 400,
    type: 'invalid_request_error',
    says: 'Idempotency-Key must be 1 to 255 visible ASCII characters; a random UUID is a good one.',
  },
  idempotency_in_progress: {
    status: 409,
    type: 'invalid_request_error',
    says: 'A request with this Idempotency-Key is still being answered; wait for that answer, or ask again in a moment.',
  },
  idempotency_mismatch: {
    status: 422,
    type: 'invalid_request_error',
    says: 'This Idempotency-Key was used for another request; send a new key with a new request.',
  },
  idempotency_too_large: {
    status: 409,
    type: 'invalid_request_error',
    says: 'The request with this Idempotency-Key was answered, but the answer was too large to keep; to ask again, and pay again, send a new key.',
  },

  // Not ready, or ours to mend.
  broker_stopping: {
    status: 503,
    type: 'api_error',
    says: 'This broker is being stopped, and the answer ends here; send the request again, and another will take it.',
  },
  not_ready: { status: 503, type: 'api_error', says: 'This broker is not ready yet: {why}. Try again in {seconds} s.' },
  store_unavailable: {
    status: 503,
    type: 'api_error',
    says: 'The database of this broker cannot be used right now; try again in {seconds} s.',
  },
  internal: {
    status: 500,
    type: 'api_error',
    says: 'Something went wrong inside the broker; tell the operator the request id.',
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

type Facts = Record<string, string | number>;
type ErrorParts = {
  facts?: Facts;
  /** The field of the request that is at fault, as the OpenAI shape names it. */
  param?: string;
  headers?: Record<string, string>;
  /** The setting that decided, in the words of the configuration; for the log, not for the caller. */
  rule?: string;
  /** A provider's status and code, kept where they are about the caller's own mistake. */
  status?: number;
  upstreamCode?: string;
  cause?: unknown;
};

/** An error meant for the caller: its sentence may be shown. Anything else that is thrown is answered as `internal`. */
export class ApiError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly type: ErrorType;
  readonly param: string | undefined;
  readonly upstreamCode: string | undefined;
  readonly rule: string | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, parts: ErrorParts = {}) {
    const row: ErrorRow = ERRORS[code];
    super(fill(row.says, parts.facts ?? {}), parts.cause === undefined ? undefined : { cause: parts.cause });
    this.name = 'ApiError';
    this.code = code;
    this.status = parts.status ?? row.status;
    this.type = row.type;
    this.param = parts.param;
    this.upstreamCode = parts.upstreamCode;
    this.rule = parts.rule;
    this.headers = parts.headers ?? {};
  }
}

const LONGEST_FACT = 200;

// Facts often come from the caller, so they are cut and their control characters dropped: a sentence is one line.
function fill(sentence: string, facts: Facts): string {
  return sentence.replace(/\{\{(\w+)\}\}|\{(\w+)\}/g, (_, literal: string | undefined, name: string) => {
    if (literal !== undefined) return `{${literal}}`;
    const fact = facts[name];
    if (fact === undefined) throw new TypeError(`the error sentence needs {${name}}`);
    const text = String(fact).replace(/\p{Cc}/gu, '');
    return text.length > LONGEST_FACT ? `${text.slice(0, LONGEST_FACT)}…` : text;
  });
}

type ErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'not_found_error'
  | 'request_too_large'
  | 'api_error';

type ErrorRow = { status: number; type: ErrorType; says: string };

/**
 * What the door itself answers; all else is the broker's answer, passed on. Programs rely on the code, people read the
 * sentence, and the sentence says what to do next. None of them names a version, a user, a device or a setting: whoever is
 * refused may be anybody's web page.
 */
export const DOOR_ERRORS = {
  // Who asks, and from where? Before the token is known an answer says nothing about this machine. (guard)
  peer_refused: {
    status: 403,
    type: 'permission_error',
    says: 'Only programs on this computer are heard here.',
  },
  host_refused: {
    status: 403,
    type: 'permission_error',
    says: 'This Host is not the address of the Sallyport daemon; use http://127.0.0.1 with its port.',
  },
  origin_refused: {
    status: 403,
    type: 'permission_error',
    says: 'Web pages are not heard here. If you trust this one, write its exact origin under origins in config.json, in the folder of the daemon, and start the daemon again.',
  },
  site_refused: {
    status: 403,
    type: 'permission_error',
    says: 'A web page sent this request, and pages are not heard here; call from a program instead.',
  },
  http_version_refused: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The Sallyport daemon speaks HTTP/1.1; send the request in that.',
  },
  request_malformed: {
    status: 400,
    type: 'invalid_request_error',
    says: 'This is not an HTTP/1.1 request that can be read; check the program that wrote it.',
  },
  request_slow: {
    status: 408,
    type: 'invalid_request_error',
    says: 'The request did not arrive in time; send it again on a new connection.',
  },
  headers_too_large: {
    status: 431,
    type: 'invalid_request_error',
    says: 'The headers are larger than 16 KiB, or too many; send fewer or shorter ones.',
  },
  upgrade_refused: {
    status: 400,
    type: 'invalid_request_error',
    says: 'This address does not switch protocols and is no proxy; send a plain HTTP request.',
  },
  expectation_refused: {
    status: 417,
    type: 'invalid_request_error',
    says: 'The only expectation served is 100-continue; leave the Expect header out.',
  },

  // What is asked? (data paths)
  target_malformed: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The request target is not accepted: {why}. Ask for a plain path such as /v1/chat/completions.',
  },
  path_unknown: {
    status: 404,
    type: 'not_found_error',
    says: 'Nothing is served at this path. Check the base URL: it usually ends in /v1 or /p/{{product}}/v1.',
  },
  method_refused: {
    status: 405,
    type: 'invalid_request_error',
    says: 'This path takes {allowed}.',
  },
  header_malformed: {
    status: 400,
    type: 'invalid_request_error',
    says: 'The header {header} may stand here once, in visible ASCII characters.',
  },

  // Which app? (apps)
  token_missing: {
    status: 401,
    type: 'authentication_error',
    says: 'This request has no app token. Make one with: sallyport apps add NAME. Then give it to the program as its API key.',
  },
  token_unknown: {
    status: 401,
    type: 'authentication_error',
    says: 'This app token is not known, or was revoked, or has expired. Make a new one with: sallyport apps add NAME.',
  },

  // The body. (spool)
  body_unexpected: {
    status: 400,
    type: 'invalid_request_error',
    says: 'A {method} request must not have a body; leave it out.',
  },
  content_type_refused: {
    status: 415,
    type: 'invalid_request_error',
    says: 'This path takes {allowed}; set Content-Type accordingly.',
  },
  body_encoded: {
    status: 415,
    type: 'invalid_request_error',
    says: 'Compressed request bodies are not accepted; send the body without Content-Encoding.',
  },
  body_too_large: {
    status: 413,
    type: 'request_too_large',
    says: 'The body is larger than {limit} bytes, which is the most that is taken here; send less.',
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

  // The way to the broker. (forward)
  not_enrolled: {
    status: 503,
    type: 'api_error',
    says: 'This computer is not enrolled. Ask an administrator for a code, then run: sallyport enroll.',
  },
  enrolment_pending: {
    status: 503,
    type: 'api_error',
    says: 'The enrolment of this computer is not finished; see what it waits for with: sallyport status.',
  },
  key_unavailable: {
    status: 503,
    type: 'api_error',
    says: 'The key of this computer cannot be used: {why} sallyport status shows which keychain has it.',
  },
  broker_unreachable: {
    status: 503,
    type: 'api_error',
    says: 'The Sallyport broker cannot be reached: {why} sallyport status shows which broker that is.',
  },
  broker_untrusted: {
    status: 502,
    type: 'api_error',
    says: 'What answers in the place of the Sallyport broker is not trusted: {why} sallyport status shows which broker that should be.',
  },
  broker_late: {
    status: 504,
    type: 'api_error',
    says: 'The Sallyport broker cannot be reached in time: {why} sallyport status shows which broker that is.',
  },
  broker_slow: {
    status: 504,
    type: 'api_error',
    says: 'Nothing came from the Sallyport broker for {seconds} s. Try again; if it stays so, tell the operator of the broker that sallyport status shows.',
  },
  broker_garbled: {
    status: 502,
    type: 'api_error',
    says: 'What came back is not an answer of a Sallyport broker: {why} A proxy or a log-in page may stand between; sallyport status shows the address that was asked.',
  },
  broker_cut: {
    status: 502,
    type: 'api_error',
    says: 'The answer broke off before its end; what arrived is incomplete. Try again; if it stays so, tell the operator of the broker that sallyport status shows.',
  },
  daemon_stopping: {
    status: 503,
    type: 'api_error',
    says: 'The Sallyport daemon is being stopped; start it again, and send the request again.',
  },
  internal: {
    status: 500,
    type: 'api_error',
    says: 'Something went wrong inside the Sallyport daemon; its log has the reason.',
  },
} as const satisfies Record<string, ErrorRow>;

export type DoorErrorCode = keyof typeof DOOR_ERRORS;

type Parts = {
  facts?: Record<string, string | number>;
  headers?: Record<string, string>;
  cause?: unknown;
};

/** An error meant for the app that called: its sentence may be shown. Anything else that is thrown is `internal`. */
export class DoorError extends Error {
  override name = 'DoorError';
  readonly code: DoorErrorCode;
  readonly status: number;
  readonly type: ErrorType;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: DoorErrorCode, { facts = {}, headers = {}, cause }: Parts = {}) {
    const row: ErrorRow = DOOR_ERRORS[code];
    super(fill(row.says, facts), cause === undefined ? undefined : { cause });
    this.code = code;
    this.status = row.status;
    this.type = row.type;
    this.headers = headers;
  }
}

function fill(sentence: string, facts: Readonly<Record<string, string | number>>): string {
  return sentence.replace(/\{\{(\w+)\}\}|\{(\w+)\}/g, (_, literal: string | undefined, name: string) => {
    if (literal !== undefined) return `{${literal}}`;
    const fact = facts[name];
    if (fact === undefined) throw new TypeError(`the error sentence needs {${name}}`);
    return String(fact)
      .replace(/\p{Cc}/gu, '')
      .slice(0, 300);
  });
}

import type { IncomingMessage, ServerResponse } from 'node:http';
import { HEADER } from '@sallyport/protocol/headers.ts';
import type { App } from './apps.ts';
import { carry, NOT_AGAIN } from './carry.ts';
import type { DataPath, Dialect } from './data-paths.ts';
import { DoorError } from './door-errors.ts';
import { valuesOf } from './guard.ts';
import { IdentityError } from './identity-error.ts';
import type { Identity } from './identity.ts';
import { readBody, spool, type Spooled } from './spool.ts';
import { UplinkError } from './uplink-error.ts';
import type { Incoming, Outgoing, Uplink } from './uplink.ts';

/** One request of an app, known and allowed. */
export type Exchange = {
  request: IncomingMessage;
  response: ServerResponse;
  method: string;
  to: DataPath;
  dialect: Dialect;
  app: App;
  /** What stands on the answer whoever gives it. */
  answerHeaders: Readonly<Record<string, string>>;
};

export type Way = {
  identity: () => Pick<Identity, 'state'>;
  /** Undefined for as long as there is no broker to go to. */
  uplink: () => Uplink | undefined;
  /** Aborted, with a reason, when the daemon stops. */
  stopping: AbortSignal;
  /** A private folder for uploads. */
  spoolFolder: string;
  random: (bytes: number) => Buffer;
  bodyBytes: number;
  uploadBytes: number;
  /** How long a body, the head of an answer, and the silence inside one may last. */
  bodyMs: number;
  answerMs: number;
  silenceMs: number;
};

// Built from a list of what may pass, so that nothing leaves that nobody thought of: no cookie, no local token, no header
// that says of itself that it is signed or trusted, and nothing that is about the connection.
const FIELDS_OUT = [
  'accept',
  HEADER.contentType,
  HEADER.idempotencyKey,
  'anthropic-beta',
  'anthropic-version',
  'openai-beta',
] as const;

const VISIBLE_ASCII = /^[\x20-\x7e]+$/;
const JSON_TYPE = /^application\/json(?:\s*;\s*charset="?utf-8"?)?\s*$/i;
const MULTIPART_TYPE = /^multipart\/form-data\s*;\s*boundary=/i;
const WITHOUT_BODY = new Set(['GET', 'DELETE']);

/** The app left; whatever the broker still sends is not read. */
class HungUp extends Error {
  override name = 'HungUp';
}

/** Takes a request to the broker and brings the answer home byte for byte; a hang-up travels too. */
export async function forward(exchange: Exchange, way: Way): Promise<void> {
  const { request, response, method, to } = exchange;
  const fields = fieldsOut(exchange);
  const body = checkBody(exchange);
  const uplink = openWay(way);
  if (request.headers.expect !== undefined) response.writeContinue();

  let upload: Spooled | undefined;
  const leaving = new AbortController();
  const leave = () => !response.writableFinished && leaving.abort(new HungUp());
  const stop = () => leaving.abort(way.stopping.reason);
  response.once('close', leave);
  // Half a hang-up: Node would still wait until everything was read by somebody who may read nothing more.
  request.socket.once('end', leave);
  way.stopping.addEventListener('abort', stop);
  // A late answer is given up whole: the broker is told, as if the app had left.
  let lateness: NodeJS.Timeout | undefined;
  try {
    let content: Outgoing['body'];
    if (body === 'upload') {
      const limits = { bytes: way.uploadBytes, deadlineMs: way.bodyMs };
      upload = await spool(request, limits, { folder: way.spoolFolder, random: way.random });
      if (upload.length > 0) content = upload;
    } else if (body === 'json') {
      const bytes = await readBody(request, { bytes: way.bodyBytes, deadlineMs: way.bodyMs });
      if (bytes.length > 0) content = { bytes };
    }
    // A type belongs to content, and a signature covers both or neither.
    if (content === undefined) delete fields[HEADER.contentType];
    way.stopping.throwIfAborted();
    lateness = setTimeout(() => leaving.abort(tooSlow(way)), way.answerMs);
    const incoming = await send(uplink, {
      method,
      path: to.path,
      query: to.query,
      fields,
      ...(content === undefined ? {} : { body: content }),
      // Whatever an app asks for is signed as an app's: no key is rotated and no Google token made on its word.
      tag: 'sallyport-v1',
      signal: leaving.signal,
    });
    clearTimeout(lateness);
    await carry(incoming, { ...exchange, silenceMs: way.silenceMs, signal: leaving.signal });
  } catch (thrown) {
    if (!(thrown instanceof HungUp)) throw thrown;
  } finally {
    clearTimeout(lateness);
    response.off('close', leave);
    request.socket.off('end', leave);
    way.stopping.removeEventListener('abort', stop);
    await upload?.remove();
  }
}

function openWay({ identity, uplink, stopping }: Way): Uplink {
  stopping.throwIfAborted();
  const { state } = identity();
  if (state === 'none') throw new DoorError('not_enrolled');
  if (state === 'pending') throw new DoorError('enrolment_pending');
  // A keychain that was locked when it was last asked may be open now: whoever signs finds out.
  const open = uplink();
  if (open === undefined) throw new DoorError('not_enrolled');
  return open;
}

async function send(uplink: Uplink, outgoing: Outgoing): Promise<Incoming> {
  try {
    return await orAborted(uplink.send(outgoing), outgoing.signal);
  } catch (thrown) {
    // Whoever aborted said why.
    if (outgoing.signal.aborted) throw outgoing.signal.reason;
    if (thrown instanceof UplinkError) throw ofUplink(thrown, outgoing.method);
    if (thrown instanceof IdentityError) {
      throw new DoorError('key_unavailable', { facts: { why: thrown.message }, cause: thrown });
    }
    throw thrown;
  }
}

// A request that was ended at the wrong moment is not always told of it, and the app would wait for ever.
async function orAborted(sending: Promise<Incoming>, signal: AbortSignal): Promise<Incoming> {
  const { promise: left, reject } = Promise.withResolvers<never>();
  const leave = () => reject(signal.reason);
  signal.addEventListener('abort', leave);
  try {
    return await Promise.race([sending, left]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}

const OF_UPLINK = {
  broker_unreachable: 'broker_unreachable',
  broker_url: 'broker_unreachable',
  broker_timeout: 'broker_late',
  broker_garbled: 'broker_garbled',
  broker_tls: 'broker_untrusted',
} as const satisfies Record<UplinkError['code'], string>;

function ofUplink(error: UplinkError, method: string): DoorError {
  const parts = { facts: { why: error.message }, cause: error };
  // What was sent may have been done, and paid for: a client library must not do it again by itself.
  const mayBePaid = error.sent && method === 'POST';
  return new DoorError(OF_UPLINK[error.code], mayBePaid ? { ...parts, headers: NOT_AGAIN } : parts);
}

function tooSlow({ answerMs }: Way): DoorError {
  return new DoorError('broker_slow', { facts: { seconds: Math.ceil(answerMs / 1000) }, headers: NOT_AGAIN });
}

function fieldsOut({ request, app }: Exchange): Record<string, string> {
  const fields: Record<string, string> = { [HEADER.app]: app.name };
  for (const name of FIELDS_OUT) {
    const [value, ...more] = valuesOf(request.rawHeaders, name);
    if (value === undefined) continue;
    // Two of them, or bytes beyond ASCII, are read differently by different readers; the signature covers one spelling.
    if (more.length > 0 || !VISIBLE_ASCII.test(value))
      throw new DoorError('header_malformed', { facts: { header: name } });
    fields[name] = value;
  }
  return fields;
}

// A form on a web page can send text/plain, and two other types, across origins without asking; these it cannot.
function checkBody({ request, method, to }: Exchange): 'json' | 'upload' | undefined {
  const { headers } = request;
  const hasBody = headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
  if (WITHOUT_BODY.has(method)) {
    if (hasBody) throw new DoorError('body_unexpected', { facts: { method } });
    return undefined;
  }
  if (headers['content-encoding'] !== undefined) throw new DoorError('body_encoded');
  const type = headers['content-type'];
  if (!hasBody && type === undefined) return undefined;
  if (JSON_TYPE.test(type ?? '')) return 'json';
  if (to.takesUpload && MULTIPART_TYPE.test(type ?? '')) return 'upload';
  const allowed = to.takesUpload ? 'application/json or multipart/form-data' : 'application/json';
  throw new DoorError('content_type_refused', { facts: { allowed } });
}

import { connect } from 'node:net';
import { newNonce, signRequest, type Moment } from '@sallyport/protocol/profile.ts';
import { CHAT, keyOf } from './world.ts';

/** A chat within every limit of its product, so that it reaches the vendor byte for byte. */
export const BODY = JSON.stringify({ ...CHAT, max_tokens: 5 });

/** What is different about one chat; in every other respect it is rightly signed and rightly written. */
export type Shape = {
  /** What stands in front of the request. */
  before?: string;
  method?: string;
  target?: string;
  version?: string;
  /** The first line, in place of the three above. */
  line?: string;
  host?: string[];
  /** The body that is signed. Without one, nothing about a body is said. */
  body?: string | Buffer;
  type?: string;
  /** How the end of the body is told, in place of its Content-Length. */
  framing?: string[];
  /** What follows the headers, in place of the body. */
  wire?: string | Buffer;
  extra?: string[];
  /** What is signed, where it is not what is sent. */
  signedPath?: string;
  moment?: Partial<Moment>;
};

/** A request that is written wrongly, or only oddly: a shape, or bytes of its own. */
export type Written = Shape | ((authority: string) => Shape | string);

export type Refused = [what: string, written: Written, status: number, code: string];
export type Harmless = [what: string, written: Written, because: string];

export function write(authority: string, written: Written): Buffer {
  const made = typeof written === 'function' ? written(authority) : written;
  return typeof made === 'string' ? Buffer.from(made, 'latin1') : signedBytes(authority, made);
}

/** A request in bytes, and what a signature of it covers. */
export type SignedBytes = {
  bytes: Buffer;
  /** Method and target, as the first line has them. */
  firstWords: string;
  /** Every field that decides, as `name: value` with the name in small letters. */
  covered: string[];
  body: Buffer;
};

/** The bytes of a chat, signed and then shaped. Text stands for bytes by their numbers: `\xff` is one byte. */
export function signedBytes(authority: string, shape: Shape = {}): Buffer {
  return sign(authority, shape).bytes;
}

/** The same, and what was signed in it. */
export function sign(authority: string, shape: Shape = {}): SignedBytes {
  const { method = 'POST', target = '/v1/chat/completions', version = 'HTTP/1.1', host = [authority] } = shape;
  const { line = `${method} ${target} ${version}`, type = 'application/json', extra = [] } = shape;
  const body = Buffer.from(shape.body ?? (method === 'POST' ? BODY : ''));
  const hasBody = body.length > 0;
  const { signedPath = target } = shape;
  const [path = '', query] = signedPath.split('?');
  const signature = signRequest(
    {
      method,
      authority,
      path,
      query: query === undefined ? '' : `?${query}`,
      fields: hasBody ? { 'content-type': type } : {},
      ...(hasBody ? { body } : {}),
    },
    keyOf('desktop'),
    { created: Math.floor(Date.now() / 1000), nonce: newNonce(), ...shape.moment },
  );
  const contentType = hasBody ? [`content-type: ${type}`] : [];
  const signed = Object.entries(signature).map(([name, value]) => `${name}: ${value}`);
  const lines = [
    line,
    ...host.map((value) => `Host: ${value}`),
    ...contentType,
    ...(shape.framing ?? (hasBody ? [`Content-Length: ${body.length}`] : [])),
    ...signed,
    ...extra,
    'Connection: close',
  ];
  const wire = shape.wire ?? body;
  return {
    bytes: Buffer.concat([
      Buffer.from(`${shape.before ?? ''}${lines.join('\r\n')}\r\n\r\n`, 'latin1'),
      typeof wire === 'string' ? Buffer.from(wire, 'latin1') : wire,
    ]),
    firstWords: `${method} ${signedPath}`,
    covered: [`host: ${authority}`, ...contentType, ...signed],
    body,
  };
}

export const CHUNKED = ['Transfer-Encoding: chunked'];

/** The body as one chunk and the last, and what may stand between them and behind the last one's size. */
export function inChunks(body: string, { size = body.length.toString(16), trailers = '' } = {}): string {
  return `${size}\r\n${body}\r\n0\r\n${trailers}\r\n`;
}

/**
 * Sends these bytes on a connection of their own and gives back all that came until the broker closed it. After a silence
 * the caller's half is closed, which says that nothing more will come; a broker that waits for the rest need not wait.
 */
export function converse(port: number, bytes: Buffer, silenceMs = 300): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }, () => socket.write(bytes));
    socket.setTimeout(silenceMs, () => socket.end());
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => socket.end());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
  });
}

/**
 * Sends the head, and then the same piece over and over, as a caller does who looks for an answer only now and then: until
 * there is one, or the broker will not have more, or it has had enough.
 */
export function pour(
  port: number,
  head: Buffer,
  piece: Buffer,
  mostBytes: number,
): Promise<{ said: string; sent: number }> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    let said = '';
    let sent = head.length;
    const more = () => {
      let isTaken = true;
      while (isTaken && !socket.destroyed && sent < mostBytes) {
        isTaken = socket.write(piece);
        sent += piece.length;
      }
      if (!isTaken) socket.once('drain', more);
      else socket.end();
    };
    socket.on('data', (data) => (said += data.toString('latin1')));
    socket.on('end', () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve({ said, sent }));
    socket.write(head);
    more();
  });
}

/** The statuses of all answers in what came, in their order. */
export function statusesIn(said: string): number[] {
  return Array.from(said.matchAll(/HTTP\/1\.1 (\d{3}) /g), ([, status]) => Number(status));
}

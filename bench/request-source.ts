import { createSecretKey } from 'node:crypto';
import type { SigningKey } from '@sallyport/protocol/keys.ts';
import { contentDigest } from '@sallyport/protocol/content-digest.ts';
import { newNonce, signRequest } from '@sallyport/protocol/profile.ts';

/** What is asked: one completion, small unless a size is named, or a stream of so many events, at once or at a pace. */
export type Ask = { stream: false; bodyBytes?: number } | { stream: true; events: number; paceMs?: number };

/** Requests as the bytes that go into the socket. */
export type RequestSource = {
  /** Makes so many in advance, so that the making is not part of what is measured. */
  prepare: (count: number) => void;
  next: () => Buffer;
};

/** One static client of the broker: its name is its key id. */
export type Client = { name: string; secret: Buffer };

const PATH = '/v1/chat/completions';
const BODY_BYTES = 1024;
// Long enough to be made before a window and used in it, short enough that few are alive at a time: the broker
// remembers at most 20,000 live nonces of a key.
const SIGNATURE_SECONDS = 20;

/** The same bytes each time, for whoever verifies nothing. */
export function plainSource(ask: Ask, port: number, headers: Readonly<Record<string, string>>): RequestSource {
  const body = bodyOf(ask);
  const request = Buffer.concat([head(port, body, headers), body]);
  return { prepare: () => {}, next: () => request };
}

/** A fresh signature each time, by the clients in turn. */
export function signedSource(ask: Ask, port: number, clients: readonly Client[]): RequestSource {
  const body = bodyOf(ask);
  const fields = { 'content-type': 'application/json', 'content-digest': contentDigest(body) };
  const view = { method: 'POST', authority: `127.0.0.1:${port}`, path: PATH, fields };
  const keys = clients.map(signingKey);
  const made: Buffer[] = [];
  let turn = 0;
  const make = (created: number): Buffer => {
    const key = keys[turn++ % keys.length];
    if (key === undefined) throw new TypeError('there is no client to sign for');
    const moment = { created, expires: created + SIGNATURE_SECONDS, nonce: newNonce() };
    const signature = signRequest(view, key, moment);
    return Buffer.concat([head(port, body, { 'content-digest': fields['content-digest'], ...signature }), body]);
  };
  return {
    prepare: (count) => {
      // What an earlier window left over has grown old.
      made.length = 0;
      const created = nowSeconds();
      while (made.length < count) made.push(make(created));
    },
    next: () => made.pop() ?? make(nowSeconds()),
  };
}

function signingKey({ name, secret }: Client): SigningKey {
  return { keyid: name, algorithm: 'hmac-sha256', key: createSecretKey(secret) };
}

function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

function head(port: number, body: Buffer, headers: Readonly<Record<string, string>>): Buffer {
  const lines = [
    `POST ${PATH} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    'Accept: application/json',
    'User-Agent: sallyport-bench',
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

function bodyOf(ask: Ask): Buffer {
  const pace = ask.stream && ask.paceMs !== undefined ? `-${ask.paceMs}ms` : '';
  const request = (filling: string): string =>
    JSON.stringify({
      model: ask.stream ? `bench-${ask.events}${pace}` : 'bench',
      messages: [
        { role: 'system', content: 'You are the librarian of a small castle. Answer in one short paragraph.' },
        { role: 'user', content: `What is a sally port?${filling}` },
      ],
      temperature: 0.7,
      max_tokens: 512,
      ...(ask.stream ? { stream: true } : {}),
    });
  if (!ask.stream && ask.bodyBytes !== undefined) {
    return Buffer.from(request(longText(ask.bodyBytes - request('').length)));
  }
  const sentence = ' Please take into account that the reader has never seen a castle from the inside.';
  const room = BODY_BYTES - request('').length;
  return Buffer.from(request(sentence.repeat(Math.ceil(room / sentence.length)).slice(0, room)));
}

// What people paste into a long prompt: lines, quotation marks, and letters that are more than one byte.
const PAGE = `
A sally port is a small, well guarded door in a fortification; "sally" is what the people inside do through it.
It lets them come out to meet whoever is at the wall, and it is built so that nobody outside can use it to get in.
  if (innerDoor.isOpen && outerDoor.isOpen) throw new Error("never both");
Die Ausfallpforte liegt geschützt, oft am Fuß eines Turmes, und führt über eine Brücke: „nur für die Besatzung“.
La poterne était murée dès que l’ennemi s’en approchait; après le siège, on la rouvrait à coups de bélier.
虎口は城の出入り口で、敵がまっすぐに攻め込めないように曲げて造られた。
`;

/** Text that takes exactly so many bytes inside a JSON string. */
function longText(bytes: number): string {
  const pageBytes = Buffer.byteLength(JSON.stringify(PAGE)) - 2;
  return PAGE.repeat(Math.floor(bytes / pageBytes)) + '.'.repeat(bytes % pageBytes);
}

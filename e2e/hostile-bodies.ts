import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import { BODY, CHUNKED, inChunks, type Harmless, type Refused, type Shape } from './raw-requests.ts';

// What may be wrong with a body: how it is cut into chunks, packed, called, and written. The sender is known in every row,
// for a body that nobody signed is never read.

const chunked = (wire: string): Shape => ({ framing: CHUNKED, wire });
const size = BODY.length.toString(16);
const sized = (written: string): Shape => chunked(inChunks(BODY, { size: written }));
const trailed = (trailers: string): Shape => chunked(inChunks(BODY, { trailers }));
const packed = (encoding: string, body: Buffer): Shape => ({ body, extra: [`Content-Encoding: ${encoding}`] });
const json = (more: string): Shape => ({ body: `{"model":"gpt-4o","messages":[]${more}}` });
const bytes = (more: string): Shape => ({
  body: Buffer.from(`{"model":"gpt-4o","messages":[],"x":"${more}"}`, 'latin1'),
});
const typed = (type: string): Shape => ({ type });

// prettier-ignore
const CHUNKS: Refused[] = [
  ['a size with a plus', sized(`+${size}`), 400, 'request_malformed'],
  ['a size below nought', sized(`-${size}`), 400, 'request_malformed'],
  ['a size that says it is hexadecimal', sized(`0x${size}`), 400, 'request_malformed'],
  ['a size with an underscore', sized('5_3'), 400, 'request_malformed'],
  ['a size with a space before it', sized(` ${size}`), 400, 'request_malformed'],
  ['a size with a space behind it', sized(`${size} `), 400, 'request_malformed'],
  ['a size with a tab behind it', sized(`${size}\t`), 400, 'request_malformed'],
  ['a size with a letter that is no digit', sized('5g'), 400, 'request_malformed'],
  ['a size with a NUL', sized(`${size}\0`), 400, 'request_malformed'],
  ['two sizes', sized(`${size},${size}`), 400, 'request_malformed'],
  ['no size', sized(''), 400, 'request_malformed'],
  ['a size past 64 bits', sized(`1${'0'.repeat(16)}`), 400, 'request_malformed'],
  ['a size that ends in a line feed alone', chunked(inChunks(BODY).replace('\r\n', '\n')), 400, 'request_malformed'],
  ['a size that ends in a carriage return alone', chunked(inChunks(BODY).replace('\r\n', '\r')), 400, 'request_malformed'],
  ['a size that ends in two carriage returns', chunked(inChunks(BODY).replace('\r\n', '\r\r')), 400, 'request_malformed'],
  ['an extension that is not there', sized(`${size};`), 400, 'request_malformed'],
  ['an extension behind a space', sized(`${size} ;a=b`), 400, 'request_malformed'],
  ['an extension without its semicolon', sized(`${size} a`), 400, 'request_malformed'],
  ['an extension with a bracket in its name', sized(`${size};a[=b`), 400, 'request_malformed'],
  ['an extension with an open quote', sized(`${size};a="b`), 400, 'request_malformed'],
  ['an extension with a NUL', sized(`${size};a\0=b`), 400, 'request_malformed'],
  ['an extension with a carriage return', sized(`${size};a\rb`), 400, 'request_malformed'],
  ['an extension with a line feed', sized(`${size};\n`), 400, 'request_malformed'],
  ['an extension without end', sized(`${size};${'a'.repeat(20_000)}`), 400, 'request_malformed'],
  ['a chunk longer than its size', sized('5'), 400, 'request_malformed'],
  ['a chunk shorter than its size', chunked(inChunks(BODY.slice(1), { size })), 400, 'request_malformed'],
  ['a chunk without its line end', chunked(inChunks(BODY).replace('}\r\n0', '}0')), 400, 'request_malformed'],
  ['a chunk that ends in a line feed alone', chunked(inChunks(BODY).replace('}\r\n0', '}\n0')), 400, 'request_malformed'],
  ['a body where its chunks should be', chunked(BODY), 400, 'request_malformed'],
  ['chunks of another body', chunked(inChunks(BODY.replace('hello', 'hallo'))), 401, 'digest_mismatch'],
  ['no chunk but the last', chunked('0\r\n\r\n'), 401, 'digest_mismatch'],
  ['a last chunk before the last', chunked(`0\r\n\r\n${inChunks(BODY)}`), 401, 'digest_mismatch'],
  ['chunks past the limit', chunked(`10000\r\n${'a'.repeat(65_536)}\r\n1\r\na\r\n0\r\n\r\n`), 413, 'body_too_large'],
  ['a chunk announced past the limit, and begun', chunked(`fffffff\r\n${'a'.repeat(70_000)}`), 413, 'body_too_large'],
  ['no last chunk', chunked(`${size}\r\n${BODY}\r\n`), 400, 'request_malformed'],
  ['a last chunk without its line end', chunked(`${size}\r\n${BODY}\r\n0\r\n`), 400, 'request_malformed'],
  ['a chunk whose rest never comes', chunked(`ffffffffffffffff\r\n${BODY}`), 400, 'request_malformed'],
  ['a length whose rest never comes', { framing: [`Content-Length: ${BODY.length + 1}`] }, 400, 'request_malformed'],
  ['a trailer that ends the body once more', trailed('Content-Length: 5\r\n'), 400, 'request_malformed'],
  ['a trailer that begins new chunks', trailed('Transfer-Encoding: chunked\r\n'), 400, 'request_malformed'],
  ['a trailer without a colon', trailed('bad\r\n'), 400, 'request_malformed'],
  ['a trailer with a space before its colon', trailed('X : y\r\n'), 400, 'request_malformed'],
  ['a trailer with a NUL', trailed('X: \0\r\n'), 400, 'request_malformed'],
  ['a folded trailer', trailed(' X: y\r\n'), 400, 'request_malformed'],
  ['a trailer without end', trailed(`X: ${'a'.repeat(20_000)}\r\n`), 431, 'headers_too_large'],
];

// prettier-ignore
const PACKINGS: Refused[] = [
  ['gzip', packed('gzip', gzipSync(BODY)), 415, 'body_encoded'],
  ['brotli', packed('br', brotliCompressSync(BODY)), 415, 'body_encoded'],
  ['deflate', packed('deflate', deflateSync(BODY)), 415, 'body_encoded'],
  ['gzip twice', packed('gzip, gzip', gzipSync(gzipSync(BODY))), 415, 'body_encoded'],
  ['an encoding that nobody knows', packed('pigeons', Buffer.from(BODY)), 415, 'body_encoded'],
  ['an encoding that is none', packed('identity', Buffer.from(BODY)), 415, 'body_encoded'],
  ['an encoding without a name', packed('', Buffer.from(BODY)), 415, 'body_encoded'],
  ['gzip that does not say so', { body: gzipSync(BODY) }, 400, 'json_malformed'],
  ['another type', typed('text/plain'), 415, 'content_type_unsupported'],
  ['a form', typed('application/x-www-form-urlencoded'), 415, 'content_type_unsupported'],
  ['a type that ends in json', typed('application/ld+json'), 415, 'content_type_unsupported'],
  ['two types in one', typed('application/json, text/plain'), 415, 'content_type_unsupported'],
  ['another set of characters', typed('application/json; charset=utf-16'), 415, 'content_type_unsupported'],
  ['a type with a parameter that may be one', typed('application/json; charset=utf-8; charset=utf-16'), 415, 'content_type_unsupported'],
  ['no body', { body: '' }, 400, 'body_missing'],
  ['a body over the limit', { body: `{"a":"${'a'.repeat(70_000)}"}` }, 413, 'body_too_large'],
  ['another body than was signed', { wire: BODY.replace('hello', 'hallo') }, 401, 'digest_mismatch'],
  ['a body with one space more than was signed', { framing: [`Content-Length: ${BODY.length + 1}`], wire: `${BODY} ` }, 401, 'digest_mismatch'],
];

// prettier-ignore
const MEANINGS: Refused[] = [
  ['a list', { body: '[]' }, 400, 'json_malformed'],
  ['a string', { body: '"model"' }, 400, 'json_malformed'],
  ['nothing but a space', { body: ' ' }, 400, 'json_malformed'],
  ['half a body', { body: '{"model":"gpt-4o","messages":[' }, 400, 'json_malformed'],
  ['two bodies', { body: `${BODY}${BODY}` }, 400, 'json_malformed'],
  ['a body behind the body', { body: `${BODY} {}` }, 400, 'json_malformed'],
  ['a body and a NUL', { body: `${BODY}\0` }, 400, 'json_malformed'],
  ['a name twice', json(',"model":"gpt-5"'), 400, 'json_malformed'],
  ['a name twice, once in disguise', json(',"mod\\u0065l":"gpt-5"'), 400, 'json_malformed'],
  ['a name twice, deep inside', json(',"x":[{"a":{"b":1,"b":2}}]'), 400, 'json_malformed'],
  ['a name twice among many', json(`,${Array.from({ length: 50 }, (_, i) => `"x${i % 49}":1`).join()}`), 400, 'json_malformed'],
  ['__proto__', json(',"__proto__":{"admin":true}'), 400, 'json_malformed'],
  ['__proto__ in disguise', json(',"\\u005f_proto__":{"admin":true}'), 400, 'json_malformed'],
  ['__proto__ deep inside', json(',"x":[{"__proto__":{"admin":true}}]'), 400, 'json_malformed'],
  ['65 levels', json(`,"x":${'['.repeat(64)}${']'.repeat(64)}`), 400, 'json_malformed'],
  ['30,000 levels', json(`,"x":${'['.repeat(30_000)}${']'.repeat(30_000)}`), 400, 'json_malformed'],
  ['30,000 levels that never close', json(`,"x":${'[{"a":'.repeat(9_000)}`), 400, 'json_malformed'],
  ['a number without end', json(',"temperature":1e400'), 400, 'json_malformed'],
  ['a number without end below nought', json(',"temperature":-1e400'), 400, 'json_malformed'],
  ['a number of 400 digits', json(`,"seed":${'9'.repeat(400)}`), 400, 'json_malformed'],
  ['a number in hexadecimal', json(',"seed":0x10'), 400, 'json_malformed'],
  ['a number with a zero before it', json(',"seed":010'), 400, 'json_malformed'],
  ['a number with a plus', json(',"seed":+1'), 400, 'json_malformed'],
  ['no number', json(',"seed":NaN'), 400, 'json_malformed'],
  ['a byte order mark', { body: `\ufeff${BODY}` }, 400, 'json_malformed'],
  ['UTF-16', { body: Buffer.from(BODY, 'utf16le') }, 400, 'json_malformed'],
  ['bytes that are no UTF-8', bytes('\xff\xfe'), 400, 'json_malformed'],
  ['UTF-8 of too many bytes', bytes('\xc0\xaf'), 400, 'json_malformed'],
  ['half a surrogate in UTF-8', bytes('\xed\xa0\x80'), 400, 'json_malformed'],
  ['half a surrogate in an escape', json(',"x":"\\ud800"'), 400, 'json_malformed'],
  ['the other half alone', json(',"x":"\\udc00"'), 400, 'json_malformed'],
  ['a line end inside a string', json(',"x":"\n"'), 400, 'json_malformed'],
  ['a NUL inside a string', json(',"x":"\0"'), 400, 'json_malformed'],
  ['an escape that nobody knows', json(',"x":"\\x41"'), 400, 'json_malformed'],
  ['a comment', json('/* x */'), 400, 'json_malformed'],
  ['a comma too many', json(','), 400, 'json_malformed'],
  ['a name without quotes', json(',x:1'), 400, 'json_malformed'],
  ['single quotes', json(",'x':1"), 400, 'json_malformed'],
  ['no model', { body: '{"messages":[]}' }, 400, 'field_invalid'],
  ['a model that is a list', { body: '{"model":["gpt-4o"],"messages":[]}' }, 400, 'field_invalid'],
  ['a model that only a member of a model names', { body: '{"model":{"toString":"gpt-4o"},"messages":[]}' }, 400, 'field_invalid'],
  ['a ceiling below nought', json(',"max_tokens":-1'), 400, 'field_invalid'],
  ['a ceiling that is no whole number', json(',"max_tokens":1.5'), 400, 'field_invalid'],
  ['a ceiling in a string', json(',"max_tokens":"5"'), 400, 'field_invalid'],
];

/** Requests that are refused for their body, each with its status and code. */
export const REFUSED_BODIES = [...CHUNKS, ...PACKINGS, ...MEANINGS];

/** What looks odd and changes nothing: the vendor gets the very body that was signed. */
// prettier-ignore
export const HARMLESS_BODIES: Harmless[] = [
  ['chunks', chunked(inChunks(BODY)), 'they are the usual way to send what is made on the way'],
  ['chunks of one byte', chunked(`${Array.from(BODY, (byte) => `1\r\n${byte}\r\n`).join('')}0\r\n\r\n`), 'how it is cut is no part of a body'],
  ['zeros before the size', sized(`0000000000000000${size}`), 'a size has as many digits as one likes (RFC 9112 7.1)'],
  ['an extension', sized(`${size};a=b;c="d e"`), 'what nobody knows is passed over (RFC 9112 7.1.1)'],
  ['a trailer', trailed('Vary: *\r\n'), 'trailers are dropped'],
  ['a trailer that would be another Host', trailed('Host: evil.example.com\r\n'), 'trailers are dropped'],
  ['a trailer that would be another product', trailed('X-Sallyport-Product: product-b\r\n'), 'trailers are dropped'],
  ['a trailer that would be another signature', trailed('Signature: sp=:AAAA:\r\nAuthorization: x\r\n'), 'trailers are dropped'],
  ['a trailer that would switch', trailed('Upgrade: h2c\r\nConnection: Upgrade\r\n'), 'trailers are dropped'],
  ['a type in capitals', typed('APPLICATION/JSON; CHARSET="UTF-8"'), 'types have no case (RFC 9110 8.3.1)'],
];

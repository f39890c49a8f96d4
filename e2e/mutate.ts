import { oneOf, type Pick } from '../protocol/random-requests.test-support.ts';

// What can happen to bytes on their way, or in the hands of somebody who wants to know what happens.

type Mutation = (bytes: Buffer, pick: Pick, other: Buffer) => Buffer;

const cat = (...parts: (Buffer | string)[]) =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));

const replaced = (bytes: Buffer, at: number, gone: number, put: Buffer | string) =>
  cat(bytes.subarray(0, at), put, bytes.subarray(at + gone));

const SPECIAL = Array.from('\r\n\0\t :;,=/?#%&@*"\\{}[]()<>.-_+0aZ\x01\x0b\x0c\x7f\x80\xc0\xe9\xff').concat(
  '\r\n',
  '\r\n\r\n',
  '\n\n',
  '\r\n ',
);
const TOKENS = [
  '\r\nTransfer-Encoding: chunked',
  '\r\nTransfer-Encoding: gzip, chunked',
  '\r\nContent-Length: 0',
  '\r\nContent-Length: 5',
  '\r\nHost: evil.example.com',
  '\r\nConnection: keep-alive',
  '\r\nConnection: upgrade\r\nUpgrade: h2c',
  '\r\nExpect: 100-continue',
  '\r\nContent-Encoding: gzip',
  '\r\nX-Sallyport-Product: product-b',
  '\r\nSignature: sp=:AAAA:',
  '\r\nX-A: b',
  ' HTTP/1.1',
  'GET / HTTP/1.1\r\nHost: h\r\n\r\n',
  '0\r\n\r\n',
  ';a=b',
  '"__proto__":',
  '../',
  '%2e',
];
const NUMBERS = [
  '0',
  '1',
  '5',
  '00',
  '-1',
  '+1',
  '65536',
  '65537',
  '4294967296',
  '9007199254740993',
  'ffffffffffffffff',
];

/** A place in the head rather than in the body, three times in four: the head is where it is decided who reads what. */
function place(bytes: Buffer, pick: Pick): number {
  const head = bytes.indexOf('\r\n\r\n');
  return pick(4) > 0 && head > 0 ? pick(head + 4) : pick(bytes.length + 1);
}

function inLines(change: (lines: string[], pick: Pick) => string[]): Mutation {
  return (bytes, pick) => cat(change(bytes.toString('latin1').split('\r\n'), pick).join('\r\n'));
}

const MUTATIONS: Mutation[] = [
  // a bit flipped
  (bytes, pick) => {
    const flipped = Buffer.from(bytes);
    const at = place(bytes, pick);
    if (at < flipped.length) flipped[at]! ^= 1 << pick(8);
    return flipped;
  },
  // a byte replaced
  (bytes, pick) => replaced(bytes, place(bytes, pick), 1, oneOf(pick, SPECIAL)),
  // bytes inserted
  (bytes, pick) => replaced(bytes, place(bytes, pick), 0, oneOf(pick, SPECIAL).repeat(1 + pick(3))),
  (bytes, pick) => replaced(bytes, place(bytes, pick), 0, oneOf(pick, TOKENS)),
  (bytes, pick) => replaced(bytes, place(bytes, pick), 0, String.fromCharCode(pick(256)).repeat(1 + pick(20_000))),
  // a header inserted where headers are
  (bytes, pick) => {
    const ends = [...bytes.toString('latin1').matchAll(/\r\n/g)].map(({ index }) => index);
    return ends.length === 0 ? bytes : replaced(bytes, oneOf(pick, ends), 0, oneOf(pick, TOKENS.slice(0, 12)));
  },
  // bytes deleted
  (bytes, pick) => replaced(bytes, place(bytes, pick), 1 + pick(3), ''),
  (bytes, pick) => replaced(bytes, place(bytes, pick), pick(bytes.length), ''),
  // bytes repeated
  (bytes, pick) => {
    const at = place(bytes, pick);
    return replaced(bytes, at, 0, bytes.subarray(at, at + pick(200)));
  },
  // cut short
  (bytes, pick) => bytes.subarray(0, pick(bytes.length)),
  // lines repeated, dropped, swapped
  inLines((lines, pick) => {
    const at = pick(lines.length);
    return lines.toSpliced(pick(lines.length), 0, lines[at]!);
  }),
  inLines((lines, pick) => lines.toSpliced(pick(lines.length), 1)),
  inLines((lines, pick) => {
    const [one, two] = [pick(lines.length), pick(lines.length)];
    return lines.with(one, lines[two]!).with(two, lines[one]!);
  }),
  // the case of a letter, or of all letters of a name
  (bytes, pick) => {
    const at = place(bytes, pick);
    const letter = bytes.toString('latin1', at, at + 1);
    return replaced(bytes, at, 1, pick(2) === 0 ? letter.toUpperCase() : letter.toLowerCase());
  },
  inLines((lines, pick) => {
    const at = pick(lines.length);
    return lines.with(
      at,
      lines[at]!.replace(/^[\w-]+:/, (name) => (pick(2) === 0 ? name.toUpperCase() : name.toLowerCase())),
    );
  }),
  // a number changed
  (bytes, pick) => {
    const numbers = [...bytes.toString('latin1').matchAll(/\d+/g)];
    if (numbers.length === 0) return bytes;
    const { 0: number, index } = oneOf(pick, numbers);
    return replaced(
      bytes,
      index,
      number.length,
      pick(2) === 0 ? oneOf(pick, NUMBERS) : String(Number(number) + 1 - pick(3)),
    );
  },
  // two requests in one: the beginning of one and the end of the other, one inside the other, one behind the other
  (bytes, pick, other) => cat(bytes.subarray(0, pick(bytes.length)), other.subarray(pick(other.length))),
  (bytes, pick, other) => replaced(bytes, place(bytes, pick), 0, other),
  (bytes, _, other) => cat(bytes, other),
];

/** The bytes after one to four things happened to them. */
export function mutate(bytes: Buffer, pick: Pick, other: Buffer): Buffer {
  let mutated = bytes;
  for (let left = 1 + Math.min(pick(4), pick(4)); left > 0; left--)
    mutated = oneOf(pick, MUTATIONS)(mutated, pick, other);
  return mutated;
}

import { isUtf8 } from 'node:buffer';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { JsonOutline, type Span } from './json-outline.ts';

// Two parsers may read one body differently: which of two equal names wins, what 1e400 is, what half a surrogate pair
// becomes. The gate refuses every body that leaves such a choice. What passes means the same to us and to the provider,
// so the caller's own bytes may be forwarded and the tree is never built.
// Left out on purpose: what the members mean. That is the dialects' work.

const DEEPEST = 64;
// Room for the longest list of token numbers that an embeddings call may bring (300,000), and little more.
const MOST_TOKENS = 500_000;

const [OBJECT_OPENS, OBJECT_CLOSES, ARRAY_OPENS, COLON, COMMA] = [0x7b, 0x7d, 0x5b, 0x3a, 0x2c] as const;
const [QUOTE, BACKSLASH, UNDERSCORE, LOWER_U] = [0x22, 0x5c, 0x5f, 0x75] as const;
const [PLUS, MINUS, POINT, ZERO, UPPER_E, LOWER_E] = [0x2b, 0x2d, 0x2e, 0x30, 0x45, 0x65] as const;

const WORDS = ['true', 'false', 'null'].map((word) => Buffer.from(word));
const SPACE = anyOf(' \t\n\r');
const DIGIT = anyOf('0123456789');
const ESCAPABLE = anyOf('"\\/bfnrtu');
const CONTROL = String.fromCharCode(...Array(0x20).keys());
const PLAIN = anyOf(`"\\${CONTROL}`).map((special) => 1 - special); // what a string may hold as it is
const HEX = new Int8Array(256).map((_, byte) => '0123456789abcdef'.indexOf(String.fromCharCode(byte).toLowerCase()));

function anyOf(characters: string): Uint8Array {
  const table = new Uint8Array(256);
  for (const byte of Buffer.from(characters)) table[byte] = 1;
  return table;
}

/** Walks the body once and throws `json_malformed`, with the byte, unless every parser would read the same in it. */
export function readOutline(body: Buffer): JsonOutline {
  refuseOtherEncodings(body);
  let at = afterAll(SPACE, body, 0);
  if (body[at] !== OBJECT_OPENS) throw refused('an object was expected', at);

  const members = new Map<string, Span>();
  const names = new OpenNames();
  const closers = [0]; // for every open container, the byte that closes it
  let depth = 0;
  let tokens = 0;
  let member = '';
  let from = 0;

  do {
    if (closers[depth] === OBJECT_CLOSES) {
      if (body[at] !== QUOTE) throw refused('a name in double quotes was expected', at);
      const nameEnd = afterString(body, at);
      names.add(body, depth, at, nameEnd);
      if (depth === 1) member = nameIn(body, at, nameEnd);
      at = afterAll(SPACE, body, nameEnd);
      if (body[at] !== COLON) throw refused('a colon was expected', at);
      at = afterAll(SPACE, body, at + 1);
      tokens++;
    }
    if (++tokens > MOST_TOKENS) throw refused(`the limit of ${MOST_TOKENS} names and values is passed`, at);
    if (depth === 1) from = at;

    const first = body[at];
    if (first === OBJECT_OPENS || first === ARRAY_OPENS) {
      if (depth === DEEPEST) throw refused(`the limit of ${DEEPEST} nested levels is passed`, at);
      closers[++depth] = first + 2; // in ASCII, { is two before } and [ two before ]
      names.open(depth);
      at = afterAll(SPACE, body, at + 1);
      if (body[at] !== closers[depth]) continue;
      at++;
      depth--;
    } else {
      at = afterScalar(body, at);
    }

    // A value ends here, and with it perhaps the containers around it.
    while (depth > 0) {
      if (depth === 1) members.set(member, { from, to: at });
      at = afterAll(SPACE, body, at);
      if (body[at] === COMMA) {
        at = afterAll(SPACE, body, at + 1);
        break;
      }
      if (body[at] !== closers[depth]) throw refused('a comma or the closing bracket was expected', at);
      at++;
      depth--;
    }
  } while (depth > 0);

  const end = afterAll(SPACE, body, at);
  if (end !== body.length) throw refused('the end of the body was expected', end);
  return new JsonOutline(body, members, at - 1);
}

// An object with more names than a row holds, or with one that must be decoded, keeps a Set of decoded names. For all
// others comparing hashes along a row is cheaper, and a row this short stays cheap when a caller makes every hash equal.
const ROW = 32;
const CELLS = (DEEPEST + 1) * ROW;
// Shared by all walks: a walk never yields.
const cells = { hash: new Int32Array(CELLS), from: new Int32Array(CELLS), to: new Int32Array(CELLS) };

// The names of the objects that are open: for every depth a row of cells, or a Set.
class OpenNames {
  readonly #ends: number[] = [];
  readonly #sets: (Set<string> | undefined)[] = [];

  open(depth: number): void {
    this.#ends[depth] = depth * ROW;
    this.#sets[depth] = undefined;
  }

  add(body: Buffer, depth: number, from: number, to: number): void {
    let hash = 0;
    let decode = body[from + 1] === UNDERSCORE; // it may be __proto__
    for (let at = from + 1; at < to - 1; at++) {
      hash = (Math.imul(hash, 31) + body[at]!) | 0;
      if (body[at] === BACKSLASH) decode = true;
    }
    const start = depth * ROW;
    const end = this.#ends[depth]!;
    if (decode || end === start + ROW || this.#sets[depth] !== undefined) {
      const set = (this.#sets[depth] ??= namesIn(body, start, end));
      const name = nameIn(body, from, to);
      if (set.has(name)) throw repeated(name, from);
      set.add(name);
      return;
    }
    for (let cell = start; cell < end; cell++) {
      if (cells.hash[cell] === hash && body.compare(body, cells.from[cell], cells.to[cell], from, to) === 0) {
        throw repeated(nameIn(body, from, to), from);
      }
    }
    cells.hash[end] = hash;
    cells.from[end] = from;
    cells.to[end] = to;
    this.#ends[depth] = end + 1;
  }
}

function namesIn(body: Buffer, start: number, end: number): Set<string> {
  const names = new Set<string>();
  for (let cell = start; cell < end; cell++) names.add(nameIn(body, cells.from[cell]!, cells.to[cell]!));
  return names;
}

// __proto__ is refused because a careless copy turns it into a prototype; constructor and prototype are legal names.
function nameIn(body: Buffer, from: number, to: number): string {
  const text = body.toString('utf8', from + 1, to - 1);
  const name: string = text.includes('\\') ? JSON.parse(`"${text}"`) : text;
  if (name === '__proto__') throw refused('the name __proto__ is not accepted; it stands', from);
  return name;
}

// Its own function, though it is short: inlined by hand into afterString, V8 made the loop half as fast.
function afterAll(kind: Uint8Array, body: Buffer, from: number): number {
  let at = from;
  while (at < body.length && kind[body[at]!]) at++;
  return at;
}

function afterScalar(body: Buffer, from: number): number {
  const first = body[from] ?? 0;
  if (first === QUOTE) return afterString(body, from);
  if (first === MINUS || DIGIT[first]) return afterNumber(body, from);
  for (const word of WORDS) if (word.every((byte, index) => body[from + index] === byte)) return from + word.length;
  throw refused('a value was expected', from);
}

function afterString(body: Buffer, from: number): number {
  let at = from + 1;
  for (;;) {
    at = afterAll(PLAIN, body, at);
    if (body[at] === QUOTE) return at + 1;
    if (at >= body.length) throw refused('the closing quote was expected', body.length);
    if (body[at] !== BACKSLASH) throw refused('an unescaped control character stands', at);
    at = afterEscape(body, at);
  }
}

// Half a surrogate pair is grammatical, yet one parser keeps it and the next writes U+FFFD: two names become one.
function afterEscape(body: Buffer, from: number): number {
  const kind = body[from + 1] ?? 0;
  if (!ESCAPABLE[kind]) throw refused('an unknown escape stands', from);
  if (kind !== LOWER_U) return from + 2;
  const unit = unitAt(body, from);
  if (unit < 0) throw refused('an unknown escape stands', from);
  if (unit < 0xd800 || unit > 0xdfff) return from + 6;
  const low = unitAt(body, from + 6);
  if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff) throw refused('half a surrogate pair stands', from);
  return from + 12;
}

// The code unit \uXXXX writes here, negative where none is written: -1 for a digit stays negative under << and |.
function unitAt(body: Buffer, at: number): number {
  if (at + 6 > body.length || body[at] !== BACKSLASH || body[at + 1] !== LOWER_U) return -1;
  const [a, b, c, d] = [HEX[body[at + 2]!]!, HEX[body[at + 3]!]!, HEX[body[at + 4]!]!, HEX[body[at + 5]!]!];
  return (a << 12) | (b << 8) | (c << 4) | d;
}

function afterNumber(body: Buffer, from: number): number {
  const whole = body[from] === MINUS ? from + 1 : from;
  let at = body[whole] === ZERO ? whole + 1 : afterDigits(body, whole);
  let mayOverflow = at - whole > 300;
  if (body[at] === POINT) at = afterDigits(body, at + 1);
  if (body[at] === LOWER_E || body[at] === UPPER_E) {
    mayOverflow = true;
    const signed = body[at + 1] === PLUS || body[at + 1] === MINUS;
    at = afterDigits(body, signed ? at + 2 : at + 1);
  }
  if (!mayOverflow || Number.isFinite(Number(body.toString('latin1', from, at)))) return at;
  throw refused('a number too large for a double stands', from);
}

function afterDigits(body: Buffer, from: number): number {
  const at = afterAll(DIGIT, body, from);
  if (at === from) throw refused('a digit was expected', at);
  return at;
}

function refuseOtherEncodings(body: Buffer): void {
  if (body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf) throw refused('a byte order mark stands', 0);
  if (isUtf8(body)) return;
  const mended = Buffer.from(body.toString()); // differs from the body where the first bad bytes were replaced
  let at = 0;
  while (body[at] === mended[at]) at++;
  throw refused('bytes that are not UTF-8 begin', at);
}

function repeated(name: string, at: number): ApiError {
  return refused(`an object repeats the name "${name}"`, at);
}

function refused(why: string, at: number): ApiError {
  return new ApiError('json_malformed', { facts: { why, at } });
}

import { isUtf8 } from 'node:buffer';

/**
 * Hears the data of one event: `bytes` from `from` up to `to`. True passes the event on; false passes neither it nor
 * anything behind it. What it throws breaks the stream off.
 */
export type HearEvent = (bytes: Buffer, from: number, to: number) => boolean;

/** Takes events that are whole, as they are to leave. */
export type PassEvents = (events: Buffer) => void;

/** Thrown where a stream is none: what cannot be read must not be passed on as if it had been. */
export class SseError extends Error {
  override name = 'SseError';
}

const LF = 0x0a;
const CR = 0x0d;
const NOTHING = Buffer.alloc(0);
const DATA = 'data: '.length;
const LARGEST_EVENT = 1024 * 1024;
const BYTE_ORDER_MARK = '\ufeff';

/**
 * Cuts the stream of a vendor into whole events (https://html.spec.whatwg.org/multipage/server-sent-events.html), so that
 * nothing is ever passed on by halves: an error or a comment of ours can then stand behind any of them. The plain form,
 * one `data: ` line and an empty one, is found by looking for line feeds and leaves as the bytes that came; every other
 * legal form is written anew in it. A line that the format does not know is an error here and not, as for a browser,
 * something to skip: `dbta: …` is an answer that lost a word. What is passed on does not depend on how the stream was
 * torn into pieces, not even where it breaks.
 */
export class EventCutter {
  // The event that is not whole yet. Its room doubles and its search goes on where it was: in tiny pieces, a long event
  // would otherwise be copied and searched once for each of them.
  #room = NOTHING;
  #held = 0;
  readonly #search: Search = { lineAt: 0, next: 0 };
  #isFirst = true;
  #isOver = false;

  /** Takes what arrived, and passes on the events that are whole by now: all at once, and also before it throws. */
  cut(arrived: Buffer, hear: HearEvent, pass: PassEvents): void {
    if (this.#isOver) return;
    const bytes = this.#withHeld(arrived);
    if (this.#held > 0 && !arrived.includes(LF) && !arrived.includes(CR)) return this.#hold(bytes, 0);
    const search = this.#search;
    const hasReturns = bytes.includes(CR, search.next);
    const whole: Buffer[] = [];
    let isText: boolean | undefined;
    let runsFrom = 0;
    let at = 0;
    try {
      while (!this.#isOver) {
        const isPlain = !hasReturns && search.lineAt === at;
        const plainEnd = isPlain ? endOfPlainEvent(bytes, at) : undefined;
        const end = plainEnd ?? endOfAnyEvent(bytes, search);
        if (end === undefined) break;
        checkSize(end - at);
        // All at once, which is quicker; a letter that is torn at the very end spoils that, but none of the events.
        isText ??= isUtf8(bytes);
        if (!isText && !isUtf8(bytes.subarray(at, end))) throw new SseError('an event is not UTF-8');
        search.lineAt = search.next = end;
        if (plainEnd !== undefined) {
          this.#isFirst = false;
          this.#isOver = !hear(bytes, at + DATA, end - 2);
          if (!this.#isOver) at = end;
          continue;
        }
        if (at > runsFrom) whole.push(bytes.subarray(runsFrom, at));
        const text = bytes.toString('utf8', at, end);
        at = runsFrom = end;
        const event = this.#readEvent(text);
        if (event === undefined) continue;
        this.#isOver = !hear(event.data, 0, event.data.length);
        if (!this.#isOver) whole.push(event.written);
      }
    } finally {
      if (at > runsFrom) whole.push(bytes.subarray(runsFrom, at));
      if (whole.length > 0) pass(whole.length === 1 ? whole[0]! : Buffer.concat(whole));
    }
    if (!this.#isOver) this.#hold(bytes, at);
  }

  /** What the end of the stream leaves: an event whose empty line is missing, or nothing. */
  finish(hear: HearEvent, pass: PassEvents): void {
    if (this.#held > 0) this.cut(Buffer.from('\n\n'), hear, pass);
  }

  #withHeld(arrived: Buffer): Buffer {
    if (this.#held === 0) return arrived;
    const length = this.#held + arrived.length;
    if (length > this.#room.length) {
      const room = Buffer.allocUnsafe(Math.max(length, 2 * this.#room.length));
      this.#room.copy(room, 0, 0, this.#held);
      this.#room = room;
    }
    arrived.copy(this.#room, this.#held);
    return this.#room.subarray(0, length);
  }

  // What was passed on lies in the room that held it, so what is left moves to another one.
  #hold(bytes: Buffer, from: number): void {
    const isSameRoom = from === 0 && this.#held > 0;
    this.#held = bytes.length - from;
    checkSize(this.#held);
    if (isSameRoom) return;
    // A copy: the few bytes left would keep the whole block alive that was read from the socket.
    this.#room = this.#held === 0 ? NOTHING : Buffer.from(bytes.subarray(from));
    this.#search.lineAt -= from;
    this.#search.next -= from;
  }

  #readEvent(text: string): { data: Buffer; written: Buffer } | undefined {
    const lines = (this.#isFirst && text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text).split(/\r\n|\r|\n/);
    this.#isFirst = false;
    const data: string[] = [];
    let written = '';
    for (const line of lines) {
      const { name, value } = readLine(line);
      if (name === 'data') data.push(value);
      else if (name === 'event' || name === 'id') written += `${name}: ${value}\n`;
    }
    // Without data there is no event; comments keep a connection awake, and we do that by ourselves.
    if (data.length === 0) return undefined;
    for (const value of data) written += `data: ${value}\n`;
    return { data: Buffer.from(data.join('\n')), written: Buffer.from(`${written}\n`) };
  }
}

const FIELDS = new Set(['data', 'event', 'id', 'retry']);

function readLine(line: string): { name: string; value: string } {
  if (line === '') return { name: '', value: '' };
  const colon = line.indexOf(':');
  if (colon === 0) {
    // No vendor writes JSON into a comment, but a damaged `data` looks like that.
    if (line.includes('{')) throw new SseError('a comment holds what looks like an event');
    return { name: '', value: '' };
  }
  const name = colon === -1 ? line : line.slice(0, colon);
  if (!FIELDS.has(name)) throw new SseError('a line is none that a stream of events has');
  const value = colon === -1 ? '' : line.slice(colon + 1);
  return { name, value: value.startsWith(' ') ? value.slice(1) : value };
}

function checkSize(bytes: number): void {
  if (bytes > LARGEST_EVENT) throw new SseError(`an event is larger than ${LARGEST_EVENT} bytes`);
}

/** Where the event that begins here ends, if it is `data: `, a line, and an empty line; the bytes hold no CR. */
function endOfPlainEvent(bytes: Buffer, at: number): number | undefined {
  if (bytes[at] !== 0x64 || bytes[at + 1] !== 0x61 || bytes[at + 2] !== 0x74) return undefined;
  if (bytes[at + 3] !== 0x61 || bytes[at + 4] !== 0x3a || bytes[at + 5] !== 0x20) return undefined;
  const feed = bytes.indexOf(LF, at + DATA);
  return feed !== -1 && bytes[feed + 1] === LF ? feed + 2 : undefined;
}

/** How far the search for an empty line has come: the line that it is in, and the byte that it looks at next. */
type Search = { lineAt: number; next: number };

/** Where the event that is searched ends: behind the first empty line, whichever of the three line ends are used. */
function endOfAnyEvent(bytes: Buffer, search: Search): number | undefined {
  for (; search.next < bytes.length; search.next++) {
    const at = search.next;
    if (bytes[at] !== LF && bytes[at] !== CR) continue;
    const isEmpty = at === search.lineAt;
    // Whether a line feed belongs to it will be seen. Behind an empty line it does not matter: it would be one more.
    if (bytes[at] === CR && !isEmpty && at + 1 === bytes.length) return undefined;
    const behind = bytes[at] === CR && bytes[at + 1] === LF ? at + 2 : at + 1;
    if (isEmpty) return behind;
    search.lineAt = behind;
    search.next = behind - 1;
  }
  return undefined;
}

const LINE_FEED = 10;
const HEAD_END = '\r\n\r\n';

type Part = 'head' | 'length' | 'chunk-size' | 'chunk' | 'trailer' | 'complete';

/**
 * Reads one HTTP/1.1 answer as it arrives and looks at no more than its end needs.
 * Left out on purpose: answers that end with the connection, interim answers, anything a candidate here does not send.
 */
export class AnswerReader {
  status = 0;
  bodyBytes = 0;
  /** When the first byte of the body came: for a stream, the first event. */
  firstByteAt = 0;
  #keepBody: boolean;
  #part: Part = 'head';
  #head = '';
  #left = 0;
  #line = '';
  #kept: Buffer[] = [];

  constructor(keepBody: boolean) {
    this.#keepBody = keepBody;
  }

  get complete(): boolean {
    return this.#part === 'complete';
  }

  get body(): string | undefined {
    return this.#kept.length === 0 ? undefined : Buffer.concat(this.#kept).toString();
  }

  reset(): void {
    this.status = 0;
    this.bodyBytes = 0;
    this.firstByteAt = 0;
    this.#part = 'head';
    this.#head = '';
    this.#line = '';
    if (this.#kept.length > 0) this.#kept = [];
  }

  read(source: Uint8Array, length: number): void {
    const bytes = Buffer.from(source.buffer, source.byteOffset, length);
    let at = 0;
    while (at < length) {
      switch (this.#part) {
        case 'head':
          at = this.#readHead(bytes, at);
          break;
        case 'length':
        case 'chunk':
          at = this.#readBody(bytes, at);
          break;
        case 'chunk-size':
        case 'trailer':
          at = this.#readLine(bytes, at);
          break;
        case 'complete':
          throw new Error('more bytes than one answer');
      }
    }
  }

  #readHead(bytes: Buffer, at: number): number {
    const before = this.#head.length;
    this.#head += bytes.toString('latin1', at, bytes.length);
    const end = this.#head.indexOf(HEAD_END);
    if (end === -1) return bytes.length;
    const head = this.#head.slice(0, end + 2).toLowerCase();
    this.status = Number(head.slice(9, 12));
    const declared = valueOf(head, '\r\ncontent-length:');
    if (declared !== undefined) {
      this.#left = Number(declared);
      this.#part = this.#left === 0 ? 'complete' : 'length';
    } else if (valueOf(head, '\r\ntransfer-encoding:')?.includes('chunked') === true) {
      this.#part = 'chunk-size';
    } else {
      throw new Error(`an answer without a length: ${head}`);
    }
    return at + end + HEAD_END.length - before;
  }

  #readBody(bytes: Buffer, at: number): number {
    if (this.firstByteAt === 0) this.firstByteAt = performance.now();
    const taken = Math.min(this.#left, bytes.length - at);
    this.bodyBytes += taken;
    this.#left -= taken;
    // Copied, because the connection reads into the same buffer again.
    if (this.#keepBody || this.status !== 200) this.#kept.push(Buffer.from(bytes.subarray(at, at + taken)));
    if (this.#left === 0) this.#part = this.#part === 'length' ? 'complete' : 'chunk-size';
    return at + taken;
  }

  // A chunk ends with an empty line of its own, so an empty line before a size is skipped and one after 0 is the end.
  #readLine(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(LINE_FEED, at);
    if (end === -1) {
      this.#line += bytes.toString('latin1', at, bytes.length);
      return bytes.length;
    }
    const line = (this.#line + bytes.toString('latin1', at, end)).trim();
    this.#line = '';
    if (this.#part === 'trailer') {
      if (line === '') this.#part = 'complete';
    } else if (line !== '') {
      this.#left = Number.parseInt(line, 16);
      if (Number.isNaN(this.#left)) throw new Error(`not a chunk size: ${line}`);
      this.#part = this.#left === 0 ? 'trailer' : 'chunk';
    }
    return end + 1;
  }
}

function valueOf(head: string, name: string): string | undefined {
  const found = head.indexOf(name);
  if (found === -1) return undefined;
  const start = found + name.length;
  return head.slice(start, head.indexOf('\r\n', start));
}

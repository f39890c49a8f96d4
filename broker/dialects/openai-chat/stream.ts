import { ApiError } from '@sallyport/protocol/errors.ts';
import { SseError } from '../sse.ts';
import { readErrorBody } from './errors.ts';
import { usageIn, type Usage } from './usage.ts';

const END = '[DONE]';
const OPENS_LIST = 0x5b;
const OPENS_OBJECT = 0x7b;
const CLOSES_OBJECT = 0x7d;
const QUOTE = 0x22;
const ERROR = /^\{\s*"error"\s*:\s*(?!null\b)/;
const NONE = Buffer.alloc(0);

/**
 * Reads along in a stream of chat chunks: https://platform.openai.com/docs/api-reference/chat-streaming. An event is
 * looked at by its first and last bytes; parsing each of them would cost more than passing it on.
 */
export class ChatStream {
  /** Whether the last words have been said. Without them a stream was cut off, however politely it ended. */
  isEnded = false;
  #events = 0;
  #last: { bytes: Buffer; from: number; to: number } = { bytes: NONE, from: 0, to: 0 };

  hear(bytes: Buffer, from: number, to: number): boolean {
    if (this.isEnded) return false;
    if (this.isEnd(bytes, from, to)) {
      this.isEnded = true;
      return true;
    }
    // JSON may stand between spaces.
    while (from < to && isSpace(bytes[from])) from++;
    while (from < to && isSpace(bytes[to - 1])) to--;
    if (bytes[from] !== OPENS_OBJECT || bytes[to - 1] !== CLOSES_OBJECT) {
      throw new SseError('an event is neither a chunk nor the end');
    }
    if (bytes[from + 1] !== QUOTE || bytes[from + 2] === 0x65) refuseError(bytes, from, to);
    this.#events++;
    this.#last.bytes = bytes;
    this.#last.from = from;
    this.#last.to = to;
    return true;
  }

  isEnd(bytes: Buffer, from: number, to: number): boolean {
    return bytes[from] === OPENS_LIST && bytes.toString('latin1', from, to).trimEnd() === END;
  }

  /**
   * What it has used: as the last chunk says, or counted. A provider sends about one token an event, and a stream that
   * was broken off has been paid for although its last chunk never came.
   */
  usage(): Usage {
    const { bytes, from, to } = this.#last;
    return usageIn(bytes.subarray(from, to)) ?? { outputTokens: this.#events, isEstimated: true };
  }
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x09;
}

// Some providers begin with a 200 and put what went wrong into the stream.
function refuseError(bytes: Buffer, from: number, to: number): void {
  if (!ERROR.test(bytes.toString('latin1', from, from + 64))) return;
  const error = readErrorBody(bytes.subarray(from, to));
  if (error !== undefined) throw error;
  throw new ApiError('upstream_failed', { cause: new Error('an error without words in the stream') });
}

import net from 'node:net';
import { AnswerReader } from './answer-reader.ts';

/** What is known of one answer when its last byte has arrived; times are those of performance.now(). */
export type Exchange = {
  status: number;
  bodyBytes: number;
  sentAt: number;
  firstByteAt: number;
  endedAt: number;
  /** The body itself, for an answer that is not 200 and wherever it was asked for. */
  body: string | undefined;
};

type Waiting = { resolve: (exchange: Exchange) => void; reject: (error: Error) => void };

const READ_BYTES = 64 * 1024;
const STALLED_MS = 15_000;

/** One keep-alive connection: a request goes out, its answer comes in, then the next. */
export class Connection {
  readonly #socket: net.Socket;
  readonly #reader: AnswerReader;
  #waiting: Waiting | undefined;
  #sentAt = 0;

  constructor(port: number, keepBody = false) {
    this.#reader = new AnswerReader(keepBody);
    // One buffer for all reads: an allocation for each would make the load the bottleneck.
    const onread = {
      buffer: Buffer.allocUnsafe(READ_BYTES),
      callback: (length: number, buffer: Uint8Array): boolean => {
        this.#take(buffer, length);
        return true;
      },
    };
    this.#socket = net.connect({ port, host: '127.0.0.1', noDelay: true, onread });
    this.#socket.setTimeout(STALLED_MS, () => this.#fail(new Error(`no byte for ${STALLED_MS / 1000} s`)));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => this.#fail(new Error('the connection was closed before the answer was complete')));
  }

  send(request: Buffer): Promise<Exchange> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#sentAt = performance.now();
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(buffer: Uint8Array, length: number): void {
    const reader = this.#reader;
    try {
      reader.read(buffer, length);
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    if (!reader.complete) return;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    const { status, bodyBytes, firstByteAt, body } = reader;
    reader.reset();
    waiting?.resolve({ status, bodyBytes, sentAt: this.#sentAt, firstByteAt, endedAt: performance.now(), body });
  }

  #fail(error: Error): void {
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    this.#socket.destroy();
  }
}

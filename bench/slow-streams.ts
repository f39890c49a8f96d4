import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { AnswerReader } from './answer-reader.ts';
import type { Ask, RequestSource } from './request-source.ts';
import { median } from './statistics.ts';

/** What the memory of a candidate says of many streams held open. */
export type SlowStreams = {
  /** Resident memory of a warm process that is asked nothing. */
  warmMb: number;
  /** The same with every stream open. */
  slowMb: number;
  /** What one of the streams added. */
  slowStreamKb: number;
};

/** Whose memory is measured. */
export type Holder = { port: number; source: (ask: Ask) => RequestSource; residentBytes: () => number };

type Settings = { streams: number; atOnce: number; ask: Ask; readEveryMs: number; settleMs: number; sampleMs: number };

// Slower than most models, and read slower still: what is measured is what a stream holds while hardly anything happens.
// It would last for half a minute, far longer than it is held.
const SETTINGS: Settings = {
  streams: 500,
  atOnce: 25,
  ask: { stream: true, events: 120, paceMs: 250 },
  readEveryMs: 500,
  settleMs: 2000,
  sampleMs: 200,
};
const SAMPLES = 5;
const READ_BYTES = 4096;

/** Opens many slow streams, waits until each has begun, looks at the memory and hangs up. */
export async function holdSlowStreams(holder: Holder, settings: Partial<Settings> = {}): Promise<SlowStreams> {
  const { streams, atOnce, ask, readEveryMs, settleMs, sampleMs } = { ...SETTINGS, ...settings };
  const source = holder.source(ask);
  const readers: SlowReader[] = [];
  await sleep(settleMs);
  const before = await residentBytes(holder, sampleMs);
  const readings = setInterval(() => readers.forEach((reader) => reader.readOn()), readEveryMs);
  try {
    while (readers.length < streams) {
      const next = Array.from({ length: Math.min(atOnce, streams - readers.length) }, () => {
        return new SlowReader(holder.port, source.next());
      });
      readers.push(...next);
      await Promise.all(next.map((reader) => reader.begun));
    }
    await sleep(settleMs);
    const during = await residentBytes(holder, sampleMs);
    const cut = readers.find(({ ended }) => ended !== undefined);
    if (cut !== undefined) throw new Error(`a slow stream did not last: ${cut.ended}`);
    return { warmMb: before / 1e6, slowMb: during / 1e6, slowStreamKb: (during - before) / 1e3 / streams };
  } finally {
    clearInterval(readings);
    for (const reader of readers) reader.close();
    await sleep(sampleMs);
  }
}

// The middle of a few: a collection of garbage between two looks moves it by megabytes.
async function residentBytes(holder: Holder, sampleMs: number): Promise<number> {
  const samples: number[] = [];
  while (samples.length < SAMPLES) {
    await sleep(sampleMs);
    samples.push(holder.residentBytes());
  }
  return median(samples);
}

/** One stream whose reader takes a little and then looks away until it is told to read on. */
class SlowReader {
  readonly begun: Promise<void>;
  /** Why there is no stream any more. */
  ended: string | undefined;
  readonly #socket: net.Socket;

  constructor(port: number, request: Buffer) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.begun = promise;
    const reader = new AnswerReader(false);
    const end = (why: string): void => {
      this.ended ??= why;
      reject(new Error(why));
    };
    // Answered with false, the socket stops reading until it is resumed.
    const readOnce = (length: number, buffer: Uint8Array): boolean => {
      try {
        reader.read(buffer, length);
      } catch (error) {
        end(error instanceof Error ? error.message : String(error));
      }
      const hasBegun = reader.bodyBytes > 0;
      if (hasBegun && reader.status !== 200) end(`answered ${reader.status}: ${reader.body?.slice(0, 300)}`);
      else if (reader.complete) end('it is over');
      else if (hasBegun) resolve();
      return !hasBegun;
    };
    const onread = { buffer: Buffer.allocUnsafe(READ_BYTES), callback: readOnce };
    this.#socket = net.connect({ port, host: '127.0.0.1', noDelay: true, onread });
    this.#socket.on('error', ({ message }) => end(message));
    this.#socket.on('close', () => end('the connection was closed'));
    this.#socket.write(request);
  }

  readOn(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#socket.destroy();
  }
}

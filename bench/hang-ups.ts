import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from './connection.ts';
import type { Ask, RequestSource } from './request-source.ts';

/** How a candidate took clients that left in the middle of a stream. */
export type HangUps = {
  /** 1 when its process was gone afterwards. */
  crashes: number;
  /** Ordinary requests between the bursts that were not answered in time. */
  wedged: number;
  /** Streams that the vendor still sends although nobody listens any more. */
  leftRunning: number;
};

/** Who is put to the test, and how to see whether it still lives. */
export type Tested = {
  port: number;
  source: (ask: Ask) => RequestSource;
  /** The length of a whole answer to an ordinary request. */
  answerBytes: number;
  hasEnded: () => boolean;
  /** How many streams the vendor is sending. */
  openStreams: () => Promise<number>;
};

type Settings = { bursts: number; clients: number; longestMs: number; patienceMs: number; graceMs: number };

const SETTINGS: Settings = { bursts: 12, clients: 32, longestMs: 250, patienceMs: 2000, graceMs: 1000 };

// Much longer than anyone stays.
const READ: Ask = { stream: true, events: 2000, paceMs: 5 };
// More than the sockets on the way hold: whoever does not read it leaves a candidate that waits to write.
const UNREAD: Ask = { stream: true, events: 50_000 };
const UNREAD_EVERY = 8;
// Cubed, a sixth of the moments falls into the first of 250 ms: there a candidate has asked and has no answer yet.
const EARLY = 3;
const ORDINARY: Ask = { stream: false };

/** Bursts of clients that hang up at moments of their own; after each burst as many must be answered as left. */
export async function hangUpOn(
  tested: Tested,
  random: () => number,
  settings: Partial<Settings> = {},
): Promise<HangUps> {
  const { bursts, clients, longestMs, patienceMs, graceMs } = { ...SETTINGS, ...settings };
  const [read, unread, ordinary] = [tested.source(READ), tested.source(UNREAD), tested.source(ORDINARY)];
  const found: HangUps = { crashes: 0, wedged: 0, leftRunning: 0 };
  // What a candidate before this one left running is not this one's fault.
  const before = await tested.openStreams();
  for (let burst = 0; burst < bursts && !tested.hasEnded(); burst++) {
    const leaving = Array.from({ length: clients }, (_, client) => {
      const reads = client % UNREAD_EVERY !== 0;
      const request = (reads ? read : unread).next();
      return leave(tested.port, request, { reads, abruptly: client % 2 === 1, afterMs: random() ** EARLY * longestMs });
    });
    await Promise.all(leaving);
    const answers = Array.from({ length: clients }, () => isAnswered(tested, ordinary.next(), patienceMs));
    const unanswered = (await Promise.all(answers)).filter((answered) => !answered).length;
    // A process that is gone answers nobody; that is one fault, not many.
    if (!tested.hasEnded()) found.wedged += unanswered;
  }
  await sleep(graceMs);
  found.crashes = tested.hasEnded() ? 1 : 0;
  found.leftRunning = Math.max(0, (await tested.openStreams()) - before);
  return found;
}

type Leaving = { reads: boolean; abruptly: boolean; afterMs: number };

// A tab that is closed ends its connection in order or, with bytes unread, with a reset.
function leave(port: number, request: Buffer, { reads, abruptly, afterMs }: Leaving): Promise<void> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    // What the candidate does to the connection before is not the question; whether it answers afterwards is.
    socket.on('error', () => {});
    socket.on('close', () => resolve());
    socket.write(request);
    if (reads) socket.resume();
    setTimeout(() => (abruptly ? socket.resetAndDestroy() : socket.destroy()), afterMs);
  });
}

async function isAnswered({ port, answerBytes }: Tested, request: Buffer, patienceMs: number): Promise<boolean> {
  const connection = new Connection(port);
  const tooLate = setTimeout(() => connection.close(), patienceMs);
  try {
    const { status, bodyBytes } = await connection.send(request);
    return status === 200 && bodyBytes >= answerBytes;
  } catch {
    return false;
  } finally {
    clearTimeout(tooLate);
    connection.close();
  }
}

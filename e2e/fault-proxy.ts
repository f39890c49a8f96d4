import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { Transform } from 'node:stream';
import { setTimeout } from 'node:timers/promises';

/**
 * What goes wrong on the way, in one direction of a connection: `down`, from the target to the client, unless it says `up`.
 * Offsets count the bytes of that direction since the fault was planned, or from the first byte behind an empty line: the
 * body of one HTTP exchange, since the next one on the same connection is not found. A break happens as soon as the bytes
 * before its offset have passed; at 0, in place of the first byte.
 */
export type Fault = { way?: 'down' | 'up' } & (Pace | Break | Garble);

/** `slice` is the bytes of one write, `rate` bytes per second. */
type Pace = { latencyMs: number } | { slice: number; pauseMs: number } | { rate: number };
type Offset = { at: number; from?: 'body' };
type Break = Offset & { do: keyof typeof BREAKS };
/** Another byte in place of the one at the offset, or the one that is given. */
type Garble = Offset & { do: 'garble'; byte?: number };

type Faults = Fault | readonly Fault[] | undefined;
/** Faults for every connection, or for each by its number; those that are open now come first, from 0. */
export type Plan = Faults | ((connection: number) => Faults);

/**
 * When each side of a connection was gone: its end or its reset was read here, or a fault destroyed the socket. A side that
 * is not read, because its own direction is stalled or slow, is not seen to leave.
 */
export type Carried = { closedClientMs?: number; closedTargetMs?: number };

export type FaultProxy = Awaited<ReturnType<typeof openFaultProxy>>;

/** Carries TCP connections to a port of this machine, whole and at once until a fault is planned. */
export async function openFaultProxy(targetPort: number) {
  const live = new Set<Connection>();
  const carried: Carried[] = [];
  let plan: Plan;
  let planned = 0;

  function arm({ down, up }: Connection) {
    const faults = [(typeof plan === 'function' ? plan(planned++) : plan) ?? []].flat() as Fault[];
    down.arm(faults.filter(({ way = 'down' }) => way === 'down'));
    up.arm(faults.filter(({ way }) => way === 'up'));
  }

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const target = connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const connection = { client, target, down: new Lane(target, client), up: new Lane(client, target) };
    const times: Carried = {};
    carried.push(times);
    live.add(connection);
    arm(connection);
    for (const lane of [connection.down, connection.up]) {
      const side = lane.from === client ? 'closedClientMs' : 'closedTargetMs';
      const note = () => void (times[side] ??= performance.now());
      lane.from.on('end', note).on('close', note);
      // Unheard, it would end the process; the other side is told of it when the socket closes.
      lane.from.on('error', () => {});
      lane.from.on('close', (isReset) => {
        if (isReset && lane.tells) lane.to.resetAndDestroy();
        if (client.closed && target.closed) live.delete(connection);
      });
      void lane.carry((what) => BREAKS[what](connection, lane));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    port: (server.address() as AddressInfo).port,
    /** Every connection so far, in the order of arrival. */
    carried: carried as readonly Readonly<Carried>[],
    /** How many are still open on either side. */
    get connections() {
      return live.size;
    },
    /** From now on, and on open connections too. What earlier breaks have done stays done. */
    plan(next: Plan) {
      plan = next;
      planned = 0;
      for (const connection of live) arm(connection);
    },
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const { client, target } of live) {
        client.destroy();
        target.destroy();
      }
      await closed;
    },
  };
}

type Connection = { client: Socket; target: Socket; down: Lane; up: Lane };

const BREAKS = {
  /** A proper end, for both sides. */
  cut({ client, target, down, up }: Connection) {
    for (const lane of [down, up]) lane.become('dropping');
    for (const socket of [client, target]) socket.end();
  },
  /** A reset, for both sides. */
  reset({ client, target }: Connection) {
    for (const socket of [client, target]) socket.resetAndDestroy();
  },
  /** Nothing more passes this way, and its sender soon stands before a full window. */
  stall: (_: Connection, lane: Lane) => lane.become('stalled'),
  /** What comes is read and lost, both ways, ends and resets too. */
  blackhole({ down, up }: Connection) {
    for (const lane of [down, up]) lane.become('silent');
  },
  /** A proper end this way; what still comes is lost, and the other way stays open. */
  'half-close'(_: Connection, lane: Lane) {
    lane.become('dropping');
    lane.to.end();
  },
} as const;

type Arrived = { bytes: Buffer; atMs: number };

/** One direction of a connection. It holds at most a mebibyte, and reads no more while it does. */
class Lane {
  readonly from: Socket;
  readonly to: Socket;
  #course = new Course([]);
  #state: 'passing' | 'stalled' | 'dropping' | 'silent' = 'passing';

  constructor(from: Socket, to: Socket) {
    this.from = from;
    this.to = to;
  }

  /** Whether the receiver hears that the sender has ended. */
  get tells(): boolean {
    return this.#state === 'passing' || this.#state === 'dropping';
  }

  arm(faults: readonly Fault[]): void {
    this.#course = new Course(faults);
  }

  become(state: 'stalled' | 'dropping' | 'silent'): void {
    this.#state = state;
  }

  /** Carries until the sender ends; `act` does what a break asks for. */
  async carry(act: (what: Break['do']) => void): Promise<void> {
    const arrivals: AsyncIterable<Arrived> = this.from.pipe(stampTimes());
    for await (const { bytes, atMs } of arrivals) {
      await waitMs(atMs + this.#course.latencyMs - performance.now());
      this.#course.lookForBody(bytes);
      for (let rest = bytes; this.#state === 'passing';) {
        const due = this.#course.takeDue();
        if (due !== undefined) {
          act(due);
          continue;
        }
        if (rest.length === 0) break;
        const { piece, pauseMs } = this.#course.take(rest);
        rest = rest.subarray(piece.length);
        await write(this.to, piece);
        await waitMs(pauseMs);
      }
      if (this.#state === 'stalled') {
        // Whoever has gone hears nothing any more, but the sender must be able to follow.
        await left(this.to);
        this.#state = 'dropping';
      }
    }
    if (this.tells) this.to.end();
  }
}

/** What was planned for one direction, and how far its bytes have come since. */
class Course {
  readonly latencyMs: number = 0;
  readonly #slice: number = Infinity;
  readonly #pauseMs: number = 0;
  readonly #msPerByte: number = 0;
  #marks: (Break | Garble)[] = [];
  #passed = 0;
  #bodyAt = Infinity;
  #headEnd = '';

  constructor(faults: readonly Fault[]) {
    for (const fault of faults) {
      if ('do' in fault) this.#marks.push(fault);
      else if ('latencyMs' in fault) this.latencyMs = fault.latencyMs;
      else if ('slice' in fault) ({ slice: this.#slice, pauseMs: this.#pauseMs } = fault);
      else {
        this.#slice = Math.ceil(fault.rate / 50);
        this.#msPerByte = 1000 / fault.rate;
      }
    }
  }

  lookForBody(bytes: Buffer): void {
    if (this.#bodyAt !== Infinity) return;
    const text = this.#headEnd + bytes.toString('latin1');
    const found = text.indexOf('\r\n\r\n');
    if (found !== -1) this.#bodyAt = this.#passed + found + 4 - this.#headEnd.length;
    this.#headEnd = text.slice(-3);
  }

  /** The break that has been reached, once. */
  takeDue(): Break['do'] | undefined {
    const due = this.#marks.find((mark): mark is Break => mark.do !== 'garble' && this.#until(mark) <= 0);
    this.#marks = this.#marks.filter((mark) => mark !== due);
    return due?.do;
  }

  /** What of these bytes is written next, as it is to be written, and the pause after it. */
  take(rest: Buffer): { piece: Buffer; pauseMs: number } {
    const ends = this.#marks.map((mark) => this.#until(mark)).filter((until) => until > 0);
    const piece = Buffer.from(rest.subarray(0, Math.min(this.#slice, ...ends)));
    for (const mark of this.#marks) {
      if (mark.do === 'garble' && this.#until(mark) === 0) piece[0] = mark.byte ?? ~piece[0]!;
    }
    this.#passed += piece.length;
    return { piece, pauseMs: this.#pauseMs + piece.length * this.#msPerByte };
  }

  #until({ at, from }: Offset): number {
    return (from === 'body' ? this.#bodyAt : 0) + at - this.#passed;
  }
}

function stampTimes(): Transform {
  const stamp = (bytes: Buffer): Arrived => ({ bytes, atMs: performance.now() });
  return new Transform({
    readableObjectMode: true,
    readableHighWaterMark: 16,
    transform: (bytes: Buffer, _, done) => done(null, stamp(bytes)),
    // The end takes as long as the bytes before it.
    flush: (done) => done(null, stamp(Buffer.alloc(0))),
  });
}

// One write at a time, each until the system has it: that is the backpressure, and a reset overtakes nothing.
async function write(socket: Socket, bytes: Buffer): Promise<void> {
  if (socket.writable) await new Promise<void>((resolve) => socket.write(bytes, () => resolve()));
}

async function waitMs(ms: number): Promise<void> {
  if (ms > 0) await setTimeout(ms, undefined, { ref: false });
}

async function left(socket: Socket): Promise<void> {
  if (socket.readableEnded || socket.closed) return;
  await new Promise<void>((resolve) => socket.once('end', resolve).once('close', () => resolve()));
}

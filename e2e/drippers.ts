import { connect } from 'node:net';
import { BODY, signedBytes, statusesIn } from './raw-requests.ts';

// Callers who hold connections and give nothing for them, in a process of their own: what they cost is then not taken from
// those who measure. Whoever is closed comes back, so that they are as many all the time.

export type Orders = { port: number; authority: string; each: number };

/** How one of them ended: its kind, the status it was told, and how long it held its connection. */
export type Ended = { kind: keyof typeof MANNERS; status: number | undefined; heldMs: number };

const DRIP_EVERY_MS = 1000;

const MANNERS = {
  /** Its headers come a byte at a time. */
  headers: ({ authority }: Orders) => `POST /v1/chat/completions HTTP/1.1\r\nHost: ${authority}\r\nX-Drip: `,
  /** Its headers are there and signed; its body comes a byte at a time. */
  body: ({ authority }: Orders) => signedBytes(authority, { wire: BODY.slice(0, 1) }),
  /** It asks, again and again, and reads nothing. */
  answers: ({ authority }: Orders) => `GET /v1/models HTTP/1.1\r\nHost: ${authority}\r\n\r\n`.repeat(50),
};

const ended: Ended[] = [];

function drip(kind: Ended['kind'], orders: Orders): Promise<void> {
  return new Promise((isOpen) => {
    let said = '';
    let timer: NodeJS.Timeout | undefined;
    let openedMs = 0;
    const socket = connect(orders.port, '127.0.0.1', () => {
      openedMs = performance.now();
      socket.write(MANNERS[kind](orders));
      if (kind === 'answers') socket.pause();
      else timer = setInterval(() => socket.write('x'), DRIP_EVERY_MS);
      isOpen();
    });
    socket.on('data', (data) => (said += data.toString('latin1')));
    socket.on('error', () => {});
    socket.on('close', () => {
      clearInterval(timer);
      ended.push({ kind, status: statusesIn(said)[0], heldMs: performance.now() - openedMs });
      void drip(kind, orders);
    });
  });
}

process.on('message', async (orders: Orders | 'tell') => {
  if (orders === 'tell') return process.send!(ended);
  for (let left = orders.each; left > 0; left--) {
    await Promise.all((Object.keys(MANNERS) as Ended['kind'][]).map((kind) => drip(kind, orders)));
  }
  process.send!('all are there');
});

import type { Duplex } from 'node:stream';

// What is not gone by then is on a line that needs longer for an answer than for a new attempt.
const LINGER_MS = 2_000;

/**
 * Hangs up on a caller who may still be sending: says that nothing more will come, and lets what comes run by for a moment.
 * A socket that is closed while there is something unread in it resets the connection, and the reset overtakes the answer:
 * every third caller whose body was too large never learnt it.
 */
export function linger(socket: Duplex): void {
  socket.end();
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(timer));
}

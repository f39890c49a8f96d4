import type { ServerResponse } from 'node:http';
import { answerJson } from './answer.ts';

type Exchange = { response: ServerResponse; answerHeaders: readonly string[] };

/** A reason not to send requests here yet, and how long it will last as far as is known. */
export type NotReady = { why: string; forMs: number };

/** Asks one part of the house whether it is ready. */
export type ReadinessCheck = () => NotReady | undefined;

/** Says what this is, and nothing about how it is built or what it holds. */
export function greet(exchange: Exchange): void {
  answerJson(exchange, 200, { service: 'sallyport-broker', docs: 'See docs/protocol.md for how to sign a request.' });
}

/** The process runs and its event loop turns: nothing else is touched, so that nothing else can have it restarted. */
export function liveness(exchange: Exchange): void {
  answerJson(exchange, 200, { status: 'alive' });
}

/** What platforms probe by default; 200 as long as there is something here to talk to. */
export function health(checks: readonly ReadinessCheck[]) {
  return (exchange: Exchange): void => {
    const isReady = checks.every((check) => check() === undefined);
    answerJson(exchange, 200, { status: isReady ? 'healthy' : 'degraded' });
  };
}

/** Whether a load balancer should send requests here now. */
export function readiness(checks: readonly ReadinessCheck[]) {
  return (exchange: Exchange): void => {
    const waits = checks.map((check) => check()).filter((wait) => wait !== undefined);
    if (waits.length === 0) return answerJson(exchange, 200, { status: 'ready' });
    const seconds = Math.max(1, Math.ceil(Math.max(...waits.map(({ forMs }) => forMs)) / 1000));
    const value = { status: 'not_ready', issues: waits.map(({ why }) => why) };
    answerJson(exchange, 503, value, ['retry-after', String(seconds)]);
  };
}

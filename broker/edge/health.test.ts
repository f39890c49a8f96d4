import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { greet, health, liveness, readiness, type NotReady, type ReadinessCheck } from './health.ts';

type Stage = (exchange: { response: ServerResponse; answerHeaders: readonly string[] }) => void;

async function ask(stage: Stage) {
  const server = createServer((_, response) => stage({ response, answerHeaders: ['x-request-id', 'req_1'] }));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const request = get({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, agent: false });
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    const text = Buffer.concat(await answer.toArray()).toString();
    assert.equal(answer.headers['x-request-id'], 'req_1');
    assert.equal(answer.headers['cache-control'], 'no-store');
    assert.equal(answer.headers['x-content-type-options'], 'nosniff');
    return { status: answer.statusCode, json: JSON.parse(text), retryAfter: answer.headers['retry-after'] };
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const ready: ReadinessCheck = () => undefined;
const waits =
  (why: string, forMs: number): ReadinessCheck =>
  (): NotReady => ({ why, forMs });

describe('the probes', () => {
  it('find a broker that is ready', async () => {
    assert.deepEqual(await ask(health([ready, ready])), {
      status: 200,
      json: { status: 'healthy' },
      retryAfter: undefined,
    });
    assert.deepEqual(await ask(readiness([ready, ready])), {
      status: 200,
      json: { status: 'ready' },
      retryAfter: undefined,
    });
    assert.equal((await ask(readiness([]))).status, 200);
  });

  it('find one that is not ready alive all the same, so that nobody restarts it', async () => {
    const checks = [ready, waits('fence', 4100)];
    assert.deepEqual(await ask(health(checks)), { status: 200, json: { status: 'degraded' }, retryAfter: undefined });
    assert.deepEqual(await ask(liveness), { status: 200, json: { status: 'alive' }, retryAfter: undefined });
  });

  it('are told why it is not ready, and by when the longest wait is over', async () => {
    assert.deepEqual(await ask(readiness([waits('fence', 4100), ready, waits('shutting down', 900)])), {
      status: 503,
      json: { status: 'not_ready', issues: ['fence', 'shutting down'] },
      retryAfter: '5',
    });
    assert.equal((await ask(readiness([waits('now', 0)]))).retryAfter, '1');
  });

  it('ask anew every time', async () => {
    const left = [{ why: 'fence', forMs: 1 }, undefined];
    const stage = readiness([() => left.shift()]);
    assert.equal((await ask(stage)).status, 503);
    assert.equal((await ask(stage)).status, 200);
  });

  it('learn nothing of what is inside', async () => {
    const { json } = await ask(greet);
    assert.deepEqual(Object.keys(json), ['service', 'docs']);
    assert.doesNotMatch(JSON.stringify(json), /\d|node|koa|echo/i);
  });
});

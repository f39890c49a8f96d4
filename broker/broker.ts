import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { createApp, type House } from './app.ts';
import { clientKeys } from './auth/client-keys.ts';
import { openReplay } from './auth/replay-handover.ts';
import type { Config } from './config/config.ts';
import type { NotReady } from './edge/health.ts';
import { openServer } from './edge/server.ts';
import { openIdentities } from './identities.ts';
import { MemoryCounters } from './limits/counters-memory.ts';
import type { Logger } from './log/logger.ts';
import { OperatorError } from './log/operator-error.ts';
import { buildProviders } from './providers/providers.ts';
import { IdempotencyMemory } from './relay/idempotency.ts';
import { LiveCalls } from './relay/live-calls.ts';
import { openDataFolder, type DataFolder } from './store/data-folder.ts';

type Settings = {
  config: Config;
  log: Logger;
  now: () => number;
  elapsedMs: () => number;
};

/** A broker that listens. */
export type Broker = {
  port: number;
  /** How long it will still refuse signatures, because the run before it ended without handing over. */
  fencedForMs: () => number;
  /** Lets what is under way finish, ends what does not, hands over what must not be forgotten, and lets go of everything. */
  stop: (phases?: Partial<Config['shutdown']>) => Promise<void>;
};

/** Opens every room of the house and begins to listen; throws with a sentence for the operator where it cannot. */
export async function openBroker({ config, log, now, elapsedMs }: Settings): Promise<Broker> {
  const folder = openDataFolder(config.data);
  try {
    return await openOver(folder, { config, log, now, elapsedMs });
  } catch (error) {
    folder.close();
    throw error;
  }
}

async function openOver(folder: DataFolder, { config, log, now, elapsedMs }: Settings): Promise<Broker> {
  const warn = (what: string, error: unknown) => log.warn({ cause: error }, what);
  const live = new LiveCalls();
  const endRevoked = () => {
    for (const { keyid, endNow } of live) {
      const refusal = identities.deviceKeys.refusalOf(keyid);
      if (refusal !== undefined) endNow(refusal);
    }
  };
  const { replay, handOver } = openReplay({ folder, now, warn });
  const identities = await openIdentities({ config, log, now, elapsedMs, onRefresh: endRevoked }).catch((error) => {
    // Nothing was accepted: what the run before left is left again, for the next start.
    handOver();
    throw error;
  });
  const { records, deviceKeys } = identities;
  const providers = buildProviders(config.providers, now);
  let isStopping = false;
  const isFenced = (): NotReady | undefined => {
    const forMs = replay.fencedForMs(now());
    return forMs > 0 ? { why: 'waiting until no signature from before the start can be replayed', forMs } : undefined;
  };
  const isGoing = (): NotReady | undefined => (isStopping ? { why: 'shutting down', forMs: 10_000 } : undefined);
  const clients = clientKeys(config.clients);
  const house: House = {
    config,
    providers,
    findKey: (keyid) => clients(keyid) ?? deviceKeys.find(keyid),
    records,
    replay,
    counters: new MemoryCounters({ now, elapsedMs }),
    relay: { ...config.streams, hideUpstreamErrors: config.hideUpstreamErrors, live },
    idempotency: new IdempotencyMemory({ now }),
    readinessChecks: [identities.isReady, isFenced, isGoing],
    isStopping: () => isStopping,
    log,
    now,
    elapsedMs,
  };
  const server = openServer(createApp(house).callback(), { connections: config.limits.connections, log });
  try {
    await listen(server, config.listen);
  } catch (error) {
    handOver();
    await identities.stop();
    throw error;
  }
  return {
    port: (server.address() as AddressInfo).port,
    fencedForMs: () => replay.fencedForMs(now()),
    async stop(phases) {
      const { acceptMs, finishMs, endMs } = { ...config.shutdown, ...phases };
      isStopping = true;
      await setTimeout(acceptMs);
      const closed = once(server, 'close').then(() => 'closed');
      server.close();
      // A connection that was busy when the server closed would be kept, idle, for as long as any other.
      const idle = setInterval(() => server.closeIdleConnections(), 50);
      if ((await Promise.race([closed, waitFor(finishMs)])) !== 'closed') {
        for (const { endNow } of live) endNow(new ApiError('broker_stopping'));
        if ((await Promise.race([closed, waitFor(endMs)])) !== 'closed') server.closeAllConnections();
      }
      await closed;
      clearInterval(idle);
      await Promise.all(providers.map(({ dispatcher }) => dispatcher.destroy()));
      // Only now can no further signature be taken, so only now is the list of used ones complete.
      handOver();
      await identities.stop();
      folder.close();
    },
  };
}

// Alone it does not keep the process alive.
const waitFor = (ms: number) => setTimeout(ms, 'waited', { ref: false });

/** Thrown with a sentence for the operator when the port cannot be had. */
export class ListenError extends OperatorError {
  override name = 'ListenError';
}

async function listen(server: Server, { host, port }: Config['listen']): Promise<void> {
  try {
    server.listen({ host, port });
    await once(server, 'listening');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    // Everywhere, in both families, is the default; a machine without IPv6 still has the other one.
    if (host === '::' && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL')) {
      return listen(server, { host: '0.0.0.0', port });
    }
    throw new ListenError(
      code === 'EADDRINUSE'
        ? `Port ${port} is already in use; stop the program that holds it, or choose another port: PORT=8081.`
        : `Cannot listen on ${host}, port ${port}: ${(cause as Error).message}.`,
      { cause },
    );
  }
}

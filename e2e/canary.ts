import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { providerAgent, type Lookup } from '../broker/outbound/agent.ts';

const OPENED = 'net.client.socket';

export type Canary = Awaited<ReturnType<typeof openCanary>>;

/** Listens at every address of this machine: whoever is heard has been led to it. Also notes whom this process dials. */
export async function openCanary() {
  const heard: string[] = [];
  const dialled: string[] = [];
  const server = createServer((socket) => {
    heard.push(`${socket.localAddress}`);
    socket.on('error', () => {}).resume();
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ncanary');
  });
  let hasIPv6 = true;
  try {
    await once(server.listen(0, '::'), 'listening');
  } catch {
    // A machine without IPv6 still has the other family.
    hasIPv6 = false;
    await once(server.listen(0, '0.0.0.0'), 'listening');
  }
  const note = (message: unknown) => {
    const { socket } = message as { socket: Socket };
    socket.on('connectionAttempt', (address: string, port: number) => dialled.push(`${address} ${port}`));
  };
  subscribe(OPENED, note);
  return {
    port: (server.address() as AddressInfo).port,
    hasIPv6,
    heard,
    /** Every attempt to connect, as `address port`, whether or not somebody was there. */
    dialled,
    forget() {
      heard.length = 0;
      dialled.length = 0;
    },
    async close() {
      unsubscribe(OPENED, note);
      await once(server.close(), 'close');
    },
  };
}

type Reach = { allowPrivate?: boolean; connectTimeoutMs?: number; lookup: Lookup };

/** Tries to reach the host of a URL as a provider is reached. Tells the error, or that somebody answered. */
export async function reach(
  url: string,
  { allowPrivate = false, connectTimeoutMs = 2000, lookup }: Reach,
): Promise<unknown> {
  const agent = providerAgent({ allowPrivate, connectTimeoutMs, lookup });
  try {
    const { body } = await agent.request({ origin: new URL(url).origin, path: '/', method: 'GET' });
    await body.text();
    return 'reached';
  } catch (error) {
    return error;
  } finally {
    await agent.destroy();
  }
}

/** An address as a look-up tells it. */
export function toFound(address: string): { address: string; family: number } {
  return { address, family: address.includes(':') ? 6 : 4 };
}

import { randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Candidate, Site } from './candidate.ts';
import { type Client, signedSource } from './request-source.ts';
import { startCandidate } from './start.ts';

const ENTRY = path.join(import.meta.dirname, '../broker/main.ts');
// The broker keeps at most 20,000 live nonces of a key: so many keys that no window reaches it.
const CLIENTS = 32;

/** The broker as it is shipped: it verifies each signature, its nonce and its digest, checks, limits, logs and meters. */
export const BROKER: Candidate = {
  name: 'broker',
  title: 'Sallyport broker, all features on',
  missing: () => (existsSync(ENTRY) ? undefined : 'broker/main.ts is not there'),
  start: async (site) => {
    const clients = Array.from({ length: CLIENTS }, (_, index) => ({
      name: `bench-${index}`,
      secret: randomBytes(32),
    }));
    const file = path.join(site.folder, 'sallyport.yaml');
    writeFileSync(file, configuration(site, clients));
    const command = [process.execPath, ENTRY, 'serve', '--config', file];
    return {
      name: 'broker',
      port: site.port,
      process: await startCandidate(command, site, '/ready'),
      source: (ask) => signedSource(ask, site.port, clients),
    };
  },
};

// Every limit is on and none is reached: what is measured is the counting, not the refusing.
function configuration({ port, mockPort }: Site, clients: readonly Client[]): string {
  const clientLines = clients.map(
    ({ name, secret }) => `  ${name}: { secret: "hex:${secret.toString('hex')}", products: [bench] }`,
  );
  return `
public_url: http://127.0.0.1:${port}
listen: { host: 127.0.0.1, port: ${port} }
data: ./data
log: { level: info }
limits: { address: { burst: 1000000, per_second: 1000000 } }
providers:
  mock:
    kind: openai-compatible
    base_url: http://127.0.0.1:${mockPort}/v1
    allow_private: true
    api_key: sk-bench
products:
  bench:
    models: ["*"]
    max_tokens: 8192
    temperature: [0, 2]
    rate: { burst: 100000, per_second: 100000, per_day: 1000000000 }
clients:
${clientLines.join('\n')}
`;
}

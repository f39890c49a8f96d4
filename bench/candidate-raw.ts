import path from 'node:path';
import type { Candidate } from './candidate.ts';
import { plainSource } from './request-source.ts';
import { startCandidate } from './start.ts';

/** A proxy of node:http and nothing else: what a hop through Node costs before it does anything. */
export const RAW: Candidate = {
  name: 'raw',
  title: 'raw node:http proxy, no features',
  missing: () => undefined,
  start: async (site) => {
    const script = path.join(import.meta.dirname, 'raw-proxy.ts');
    const command = [process.execPath, script, String(site.port), String(site.mockPort)];
    return {
      name: 'raw',
      port: site.port,
      process: await startCandidate(command, site, '/'),
      source: (ask) => plainSource(ask, site.port, { authorization: 'Bearer x' }),
    };
  },
};

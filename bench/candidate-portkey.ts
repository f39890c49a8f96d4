import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Candidate } from './candidate.ts';
import { plainSource } from './request-source.ts';
import { startCandidate } from './start.ts';

const ENTRY = path.join(import.meta.dirname, 'node_modules/@portkey-ai/gateway/build/start-server.js');

/**
 * The gateway people would use instead. As npm installs it today it answers 500 to every stream, hence the override of
 * @hono/node-server in package.json. It signs, limits and meters nothing here.
 */
export const PORTKEY: Candidate = {
  name: 'portkey',
  title: '@portkey-ai/gateway 1.15.2',
  missing: () => (existsSync(ENTRY) ? undefined : install()),
  start: async (site) => {
    const command = [process.execPath, ENTRY, '--headless', `--port=${site.port}`];
    const headers = {
      authorization: 'Bearer x',
      'x-portkey-provider': 'openai',
      'x-portkey-custom-host': `http://127.0.0.1:${site.mockPort}/v1`,
    };
    return {
      name: 'portkey',
      port: site.port,
      process: await startCandidate(command, site, '/', { NODE_ENV: 'production' }),
      source: (ask) => plainSource(ask, site.port, headers),
    };
  },
};

function install(): string | undefined {
  try {
    execFileSync('npm', ['ci'], { cwd: import.meta.dirname, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
    return undefined;
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
    // The first line is the code, the last one says where npm keeps its log; between them it says what went wrong.
    const reason = said.split('\n').find((line) => !/^npm error (code|A complete log)/.test(line)) ?? '';
    return `npm ci in bench/ failed: ${reason.replace('npm error ', '').slice(0, 200)}`;
  }
}

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readConfig } from '../config/config.ts';
import { configCommand } from './config.ts';
import type { Terminal } from './terminal.ts';

async function run(yaml: string, ...words: string[]) {
  const shown = { said: [] as string[], written: '', code: 0, files: [] as (string | undefined)[] };
  const terminal: Terminal = {
    readConfig(file) {
      shown.files.push(file);
      const { config, mistakes = [] } = readConfig({ env: {}, cwd: '/srv', file, readFile: () => yaml });
      for (const { says } of mistakes) shown.said.push(says);
      return config;
    },
    now: Date.now,
    say: (line) => void shown.said.push(line),
    write: (text) => void (shown.written += text),
    exit: (code) => void (shown.code = code),
    untilAskedToStop: () => Promise.resolve('SIGTERM'),
  };
  await configCommand(terminal).parseAsync(words, { from: 'user' });
  return shown;
}

const ONE = `
providers: { echo: { kind: echo } }
products: { p: { models: [echo] } }
clients: { c: { secret: "0123456789abcdef0123456789abcdef", products: [p] } }
`;
const TWO = ONE.replace('{ p:', '{ q: { models: [echo] }, p:');

describe('config check', () => {
  it('counts what there is', async () => {
    assert.equal((await run(ONE, 'check')).written, 'ok: 1 provider, 1 product, 1 client\n');
    assert.equal((await run(TWO, 'check')).written, 'ok: 1 provider, 2 products, 1 client\n');
  });

  it('reads the file that was named', async () => {
    assert.deepEqual((await run(ONE, 'check', '--config', 'other.yaml')).files, ['other.yaml']);
    assert.deepEqual((await run(ONE, 'check')).files, [undefined]);
  });

  it('fails, and says ok of nothing, when there is a mistake', async () => {
    const { said, written, code } = await run(ONE.replace('kind: echo', 'kind: ecco'), 'check');
    assert.deepEqual([written, code], ['', 1]);
    assert.match(said.join(), /did you mean echo\?/);
  });
});

describe('config docs', () => {
  it('prints the reference, and reads no configuration for it', async () => {
    const { written, files, code } = await run('nonsense: [', 'docs');
    assert.equal(written, readFileSync(join(import.meta.dirname, '../../docs/configuration.md'), 'utf8'));
    assert.deepEqual([files, code], [[], 0]);
  });
});

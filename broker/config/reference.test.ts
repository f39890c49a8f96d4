import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { readConfig } from './config.ts';
import { EXAMPLE, reference } from './reference.ts';

describe('docs/configuration.md', () => {
  it('is what `npm run docs` prints', () => {
    assert.equal(readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8'), reference());
  });

  it('shows an example that starts', () => {
    const env = { OPENAI_API_KEY: 'k', DESKTOP_SECRET: 's'.repeat(32) };
    const { config, mistakes } = readConfig({ env, cwd: '/srv', readFile: () => EXAMPLE });
    assert.deepEqual(mistakes ?? [], []);
    assert.deepEqual([config?.providers.length, config?.products.length, config?.clients.length], [3, 2, 2]);
  });

  it('has a row for every setting in the example', () => {
    const settings = pathsIn(parse(EXAMPLE)).map((path) =>
      path.replace(/^(providers|products|clients)\.[^.]+/, '$1.<name>'),
    );
    assert.ok(settings.length > 30);
    for (const setting of settings) assert.ok(reference().includes(`| \`${setting}\` `), setting);
  });
});

function pathsIn(value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [path];
  return Object.entries(value).flatMap(([name, inner]) => pathsIn(inner, path === '' ? name : `${path}.${name}`));
}

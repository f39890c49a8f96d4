import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { readConfig } from './config.ts';
import type { Reading } from './config.ts';
import { EXAMPLE, reference } from './reference.ts';

const SECRET = 'a secret that nobody must ever see';
const API_KEY = 'sk-live-0123456789abcdefghijklmnopqrstuvwxyz';
const PLANTED = { OPENAI_API_KEY: API_KEY, DESKTOP_SECRET: SECRET };

function read(yaml: string): Reading {
  return readConfig({ env: PLANTED, cwd: '/srv', readFile: () => yaml });
}

describe('secrets', () => {
  it('do not show in a configuration that is printed', () => {
    const config = read(EXAMPLE).config;
    assert.ok(config);
    const printed = `${JSON.stringify(config)} ${inspect(config, { depth: Infinity, showHidden: true })}`;
    for (const secret of Object.values(PLANTED)) assert.ok(!printed.includes(secret));
    assert.ok(printed.includes('[secret]'));
  });

  it('do not show in a mistake, and nothing throws, wherever a file is torn', () => {
    const inline = EXAMPLE.replace(/\$\{(\w+)[^}]*\}/g, (_, name: string) => PLANTED[name as keyof typeof PLANTED]);
    const piece = fc.constantFrom('', '${', '$${', '\0', ...' \n\t:"\'{}[]-#*&!|~');
    const tear = fc.tuple(fc.constantFrom(EXAMPLE, inline), fc.nat(), fc.nat(12), piece);
    fc.assert(
      fc.property(tear, ([file, place, length, put]) => {
        const at = place % file.length;
        const { mistakes = [] } = read(file.slice(0, at) + put + file.slice(at + length));
        for (const { place: where, says } of mistakes) {
          assert.match(where, /^sallyport\.yaml:\d+:\d+/);
          assert.match(says, /^[A-Z]/);
          for (const secret of Object.values(PLANTED)) assert.ok(!`${where} ${says}`.includes(secret), says);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('do not show in a mistake, even where they stand in place of a name', () => {
    const secret = 'ab'.repeat(16);
    for (const name of [secret, `secret:${secret}`, `secret=${secret}`, `secret ${secret}`]) {
      const { mistakes = [] } = read(`clients: { c: { ${name} } }`);
      assert.ok(mistakes.length > 0);
      assert.ok(!JSON.stringify(mistakes).includes(secret), name);
    }
  });

  it('do not show in a mistake about any setting that holds one', () => {
    const rows = reference().matchAll(/^\| `([a-z_.<>]+)`/gm);
    const everywhere = Array.from(rows, ([, path = '']) => path.replace('<name>', 'x').split('.'));
    assert.ok(everywhere.length > 25);
    for (const path of everywhere) {
      const value = path.reduceRight<unknown>((inner, name) => ({ [name]: inner }), '${DESKTOP_SECRET}');
      const { mistakes = [] } = read(JSON.stringify(value));
      assert.ok(!JSON.stringify(mistakes).includes(SECRET), path.join('.'));
    }
  });
});

import assert from 'node:assert/strict';
import type { ErrorCode } from '@sallyport/protocol/errors.ts';
import { authorize } from './authorize.ts';
import { allowsModel, decide, type Rules, type Wish } from './rules.ts';

const MODELS: [pattern: string, model: string, isAllowed: boolean][] = [
  ['gpt-4o', 'gpt-4o', true],
  ['gpt-4o', 'gpt-4o-mini', false],
  ['gpt-4o', 'my-gpt-4o', false],
  ['gpt-4o', 'GPT-4o', false],
  ['gpt-4o', 'gpt-4o ', false],
  ['gpt-4o', '', false],
  ['gpt-4o-*', 'gpt-4o-mini', true],
  ['gpt-4o-*', 'gpt-4o-', true],
  ['gpt-4o-*', 'gpt-4o', false],
  ['gpt-4o-*', 'x-gpt-4o-mini', false],
  ['*-mini', 'gpt-4o-mini', true],
  ['*-mini', 'gpt-4o-mini-2', false],
  ['gpt-*-mini', 'gpt-4o-mini', true],
  ['gpt-*-mini', 'gpt--mini', true],
  ['gpt-*-mini', 'gpt-mini', false], // the two ends must not share a character
  ['a*a', 'a', false],
  ['a*a', 'aa', true],
  ['ab*ba', 'aba', false],
  ['ab*ba', 'abba', true],
  ['a*b*c', 'abc', true],
  ['a*b*c', 'acb', false],
  ['a*b*b', 'ab', false],
  ['a*bc*c', 'abc', false],
  ['a*bc*c', 'abcc', true],
  ['*', 'anything/at:all', true],
  ['*', '', true],
  ['**', 'x', true],
  ['a**b', 'ab', true],
  ['*a*', 'bab', true],
  ['*a*', 'bbb', false],
  // Everything but the star means itself: a pattern is not a regular expression.
  ['gpt-4.1', 'gpt-4.1', true],
  ['gpt-4.1', 'gpt-4x1', false],
  ['gpt-4?', 'gpt-4o', false],
  ['[ab]', 'a', false],
  ['a|b', 'a', false],
  ['a.*', 'ab', false],
  ['^a$', 'a', false],
  ['a\\*', 'a\\b', true],
];

describe('the models of a product', () => {
  for (const [pattern, model, isAllowed] of MODELS) {
    it(`${isAllowed ? 'allow' : 'deny'} ${JSON.stringify(model)} by ${pattern}`, () => {
      const rules = { name: 'p', models: [pattern] };
      assert.equal(allowsModel(rules, model), isAllowed);
      if (isAllowed) assert.deepEqual(decide(rules, { model }), { rule: 'products.p.models[0]' });
      else assert.throws(() => decide(rules, { model }), { code: 'model_not_allowed', status: 400, param: 'model' });
    });
  }

  it('decide by any one of them, and name the one that did', () => {
    const rules = { name: 'p', models: ['a', 'b*', '*c'] };
    assert.deepEqual(decide(rules, { model: 'bc' }), { rule: 'products.p.models[1]' });
    assert.deepEqual(decide(rules, { model: 'xc' }), { rule: 'products.p.models[2]' });
    assert.equal(allowsModel(rules, 'd'), false);
    assert.equal(allowsModel({ name: 'p', models: [] }, 'a'), false);
  });

  it('are decided quickly, however the pattern is made', () => {
    const rules = { name: 'p', models: [`${'*a'.repeat(500)}*b`, `${'a*'.repeat(500)}b`, `*${'a'.repeat(2000)}b*`] };
    const began = performance.now();
    assert.equal(allowsModel(rules, 'a'.repeat(20_000)), false);
    assert.ok(performance.now() - began < 250);
  });
});

const strict: Rules = { name: 'p', models: ['m'], maxTokens: 100, temperature: [0.2, 1] };
const open: Rules = { name: 'p', models: ['m'] };

const LIMITS: [rules: Rules, wish: Omit<Wish, 'model'>, refusal: ErrorCode | undefined, param?: string][] = [
  [strict, {}, undefined],
  [strict, { maxTokens: { field: 'max_tokens', tokens: 100 } }, undefined],
  [strict, { maxTokens: { field: 'max_tokens', tokens: 101 } }, 'max_tokens_exceeded', 'max_tokens'],
  [
    strict,
    { maxTokens: { field: 'max_completion_tokens', tokens: 101 } },
    'max_tokens_exceeded',
    'max_completion_tokens',
  ],
  [open, { maxTokens: { field: 'max_tokens', tokens: 1e9 } }, undefined],
  [strict, { temperature: 0.2 }, undefined],
  [strict, { temperature: 1 }, undefined],
  [strict, { temperature: 0.19 }, 'temperature_out_of_range', 'temperature'],
  [strict, { temperature: 1.01 }, 'temperature_out_of_range', 'temperature'],
  [strict, { temperature: 0 }, 'temperature_out_of_range', 'temperature'],
  [strict, { temperature: -1 }, 'temperature_out_of_range', 'temperature'],
  [open, { temperature: 99 }, undefined],
  [{ ...open, temperature: [0, 0] }, { temperature: 0 }, undefined],
  [{ ...open, temperature: [0, 0] }, { temperature: 0.1 }, 'temperature_out_of_range', 'temperature'],
];

describe('the limits of a product', () => {
  for (const [rules, wish, code, param] of LIMITS) {
    const about = `${JSON.stringify(wish)} under ${JSON.stringify({ ...rules, name: undefined, models: undefined })}`;
    it(`${code === undefined ? 'allow' : 'deny'} ${about}`, () => {
      const product = { ...rules, rate: { burst: 1, perSecond: 1, perDay: 1 } } as Parameters<
        typeof authorize
      >[0]['product'];
      const ask = () => authorize({ product, wish: { model: 'm', ...wish } });
      if (code === undefined) assert.deepEqual(ask(), { decision: { rule: 'products.p.models[0]' } });
      else assert.throws(ask, { code, param, status: 400 });
    });
  }

  it('say in a refusal what may be asked for instead', () => {
    const tokens = { model: 'm', maxTokens: { field: 'max_tokens', tokens: 101 } };
    assert.throws(() => decide(strict, tokens), /max_tokens is 101, above the 100/);
    assert.throws(() => decide(strict, { model: 'm', temperature: 2 }), /temperature is 2, outside 0\.2 to 1/);
    assert.throws(() => decide(strict, { model: 'x' }), /model x is not among those of the product p/);
  });
});

import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { Secret } from './secret.ts';

describe('Secret', () => {
  const secret = new Secret('planted-value');
  const prints: [how: string, text: string][] = [
    ['a template string', `${secret}`],
    ['JSON', JSON.stringify({ secret })],
    ['inspect', inspect({ secret }, { depth: 9, showHidden: true })],
    ['string concatenation', 'is ' + secret],
    ['its own properties', JSON.stringify(Object.entries(secret))],
    ['an error made of it', String(new Error(`about ${secret}`).stack)],
  ];
  for (const [how, text] of prints) {
    it(`does not print itself through ${how}`, () => assert.doesNotMatch(text, /planted-value/));
  }

  it('gives its value when it is asked by name', () => assert.equal(secret.reveal(), 'planted-value'));
});

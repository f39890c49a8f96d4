import assert from 'node:assert/strict';
import { usageIn } from './usage.ts';

const OPENAI = {
  prompt_tokens: 19,
  completion_tokens: 10,
  total_tokens: 29,
  prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0, accepted_prediction_tokens: 0 },
};
const READ = { inputTokens: 19, outputTokens: 10, isEstimated: false };
// The last chunk of a stream may be as large as an event may be.
const LARGEST = 1024 * 1024;
const said = (content: string) => ({ choices: [{ message: { content } }] });

describe('the usage of an answer', () => {
  const FOUND: [what: string, text: string, usage: object][] = [
    ['at the end', JSON.stringify({ ...said('a'), usage: OPENAI }), READ],
    [
      'before other members',
      JSON.stringify({ ...said('a'), usage: OPENAI, system_fingerprint: 'f', service_tier: {} }),
      READ,
    ],
    ['in several lines', JSON.stringify({ usage: OPENAI }, null, 2), READ],
    ['with spaces around the colon', '{"usage"\t: {"prompt_tokens":19,"completion_tokens":10}}', READ],
    ['behind the first half of the answer, which is cut off', `xx"}}],"usage":${JSON.stringify(OPENAI)}}`, READ],
    [
      'of vectors, which have no output',
      '{"usage":{"prompt_tokens":8,"total_tokens":8}}',
      { ...READ, inputTokens: 8, outputTokens: 0 },
    ],
    ['of nothing', '{"usage":{"prompt_tokens":0,"completion_tokens":0}}', { ...READ, inputTokens: 0, outputTokens: 0 }],
    ['among letters of several bytes', JSON.stringify({ ...said('größer €🙂'), usage: OPENAI, x: 'ü' }), READ],
    ['twice, of which the last counts', `{"x":{"usage":{"prompt_tokens":1}},"usage":${JSON.stringify(OPENAI)}}`, READ],
    [
      'behind a text that speaks of another',
      JSON.stringify({ ...said('"usage":{"prompt_tokens":1,"completion_tokens":1}'), usage: OPENAI }),
      READ,
    ],
    [
      'in front of a text that speaks of another',
      JSON.stringify({ usage: OPENAI, ...said('"usage":{"prompt_tokens":1,"completion_tokens":1}') }),
      READ,
    ],
  ];
  for (const [what, text, usage] of FOUND) {
    it(`is read ${what}`, () => assert.deepEqual(usageIn(Buffer.from(text)), usage));
  }

  const MISSED: [what: string, text: string][] = [
    ['where nothing is said', JSON.stringify(said('a'))],
    ['in nothing', ''],
    ['where null is said', '{"usage":null}'],
    ['that a model has said', JSON.stringify(said('"usage":{"prompt_tokens":1,"completion_tokens":1}'))],
    ['that a model has said, as a whole answer', JSON.stringify(said(JSON.stringify({ usage: OPENAI })))],
    ['that a model has said twice over', JSON.stringify(said(JSON.stringify(said(JSON.stringify({ usage: OPENAI })))))],
    ['behind a text that ends in its name', JSON.stringify({ ...said('"usage'), x: { prompt_tokens: 1 } })],
    ['that is torn off', '{"usage":{"prompt_tokens":19,"completion_tokens":10'],
    ['of which the beginning is cut off', 'age":{"prompt_tokens":19,"completion_tokens":10}}'],
    ['that is no object', '{"usage":5}'],
    ['that is a list', '{"usage":[{"prompt_tokens":1}]}'],
    ['that is no JSON', '{"usage":{prompt_tokens:1}}'],
    ['that is empty', '{"usage":{}}'],
    ['without the input', '{"usage":{"completion_tokens":10}}'],
    ['that is a text', '{"usage":{"prompt_tokens":"19","completion_tokens":"10"}}'],
    ['that is less than nothing', '{"usage":{"prompt_tokens":-1,"completion_tokens":10}}'],
    ['that is a fraction', '{"usage":{"prompt_tokens":1.5,"completion_tokens":10}}'],
    ['that nobody can count to', '{"usage":{"prompt_tokens":1e300,"completion_tokens":10}}'],
    ['of which half is null', '{"usage":{"prompt_tokens":19,"completion_tokens":null}}'],
    ['under another name', '{"Usage":{"prompt_tokens":1},"my usage":{"prompt_tokens":1},"usages":{"prompt_tokens":1}}'],
  ];
  for (const [what, text] of MISSED) {
    it(`is not found ${what}`, () => assert.equal(usageIn(Buffer.from(text)), undefined));
  }

  it('is looked for in no time, whatever a provider sends', () => {
    for (const unit of [
      '"usage":{',
      '"usage":{{',
      '"usage":{},',
      '"usage":{{}',
      '"usage": ',
      '{',
      '{}',
      '"usage":{"a":{"b":{',
    ]) {
      for (const text of [unit, `"usage":{${unit}`].map((part) => part.repeat(LARGEST / part.length))) {
        const began = performance.now();
        usageIn(Buffer.from(text));
        const tookMs = performance.now() - began;
        assert.ok(tookMs < 1000, `${tookMs} ms for ${text.slice(0, 30)}`);
      }
    }
  });
});

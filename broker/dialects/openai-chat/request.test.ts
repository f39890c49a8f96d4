import assert from 'node:assert/strict';
import { chatWish } from '../../api/chat.ts';
import { embeddingsWish } from '../../api/embeddings.ts';
import { readOutline } from '../json-gate.ts';
import { readChatRequest, type ChatRequest } from './request.ts';

const MESSAGES = [{ role: 'user', content: 'hello' }];
const plain: ChatRequest = { model: 'm', maxTokens: undefined, temperature: undefined, isStream: false };

function outline(body: object) {
  return readOutline(Buffer.from(JSON.stringify(body)));
}

const READ: [more: object, reads: Partial<ChatRequest>][] = [
  [{}, {}],
  [{ stream: true }, { isStream: true }],
  [{ stream: false }, {}],
  [{ stream: null, max_tokens: null, temperature: null }, {}],
  [{ temperature: 0 }, { temperature: 0 }],
  [{ temperature: 1.5 }, { temperature: 1.5 }],
  [{ max_tokens: 1 }, { maxTokens: { field: 'max_tokens', tokens: 1 } }],
  [{ max_completion_tokens: 7 }, { maxTokens: { field: 'max_completion_tokens', tokens: 7 } }],
  // The larger of the two is what might be spent.
  [{ max_tokens: 5, max_completion_tokens: 7 }, { maxTokens: { field: 'max_completion_tokens', tokens: 7 } }],
  [{ max_tokens: 7, max_completion_tokens: 5 }, { maxTokens: { field: 'max_tokens', tokens: 7 } }],
  [{ max_tokens: null, max_completion_tokens: 5 }, { maxTokens: { field: 'max_completion_tokens', tokens: 5 } }],
  [{ max_tokens: 1e3 }, { maxTokens: { field: 'max_tokens', tokens: 1000 } }],
  [{ model: 'a/b:c' }, { model: 'a/b:c' }],
  [{ messages: [] }, {}],
  [{ tools: [{ constructor: 1 }], anything: { new: true } }, {}],
];

const REFUSED: [more: object, param: string][] = [
  [{ model: undefined }, 'model'],
  [{ model: null }, 'model'],
  [{ model: '' }, 'model'],
  [{ model: 5 }, 'model'],
  [{ model: ['m'] }, 'model'],
  [{ messages: undefined }, 'messages'],
  [{ messages: null }, 'messages'],
  [{ messages: 'hello' }, 'messages'],
  [{ messages: { 0: 'hello' } }, 'messages'],
  [{ stream: 'true' }, 'stream'],
  [{ stream: 1 }, 'stream'],
  [{ temperature: '1' }, 'temperature'],
  [{ temperature: [1] }, 'temperature'],
  [{ max_tokens: 0 }, 'max_tokens'],
  [{ max_tokens: -1 }, 'max_tokens'],
  [{ max_tokens: 1.5 }, 'max_tokens'],
  [{ max_tokens: '10' }, 'max_tokens'],
  [{ max_tokens: 10, max_completion_tokens: 0 }, 'max_completion_tokens'],
  [{ max_completion_tokens: '10' }, 'max_completion_tokens'],
];

describe('a chat request', () => {
  for (const [more, reads] of READ) {
    it(`is read with ${JSON.stringify(more)}`, () => {
      const json = outline({ model: 'm', messages: MESSAGES, ...more });
      assert.deepEqual(readChatRequest(json), { ...plain, ...reads });
      assert.deepEqual(chatWish({ json }), { wish: { ...plain, ...reads } });
    });
  }

  for (const [more, param] of REFUSED) {
    const written = JSON.stringify(more, (_, value: unknown) => (value === undefined ? 'left out' : value));
    it(`is refused with ${written}`, () => {
      const json = outline({ model: 'm', messages: MESSAGES, ...more });
      assert.throws(() => readChatRequest(json), { code: 'field_invalid', status: 400, param });
    });
  }
});

describe('an embeddings request', () => {
  for (const input of ['text', ['a', 'b'], [1, 2], [[1], [2]], '']) {
    it(`is read with the input ${JSON.stringify(input)}`, () => {
      assert.deepEqual(embeddingsWish({ json: outline({ model: 'm', input }) }), { wish: { model: 'm' } });
    });
  }

  it('is refused without an input or a model', () => {
    assert.throws(() => embeddingsWish({ json: outline({ model: 'm' }) }), { code: 'field_invalid', param: 'input' });
    assert.throws(() => embeddingsWish({ json: outline({ input: 'a' }) }), { code: 'field_invalid', param: 'model' });
  });
});

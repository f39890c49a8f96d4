import assert from 'node:assert/strict';
import { authenticate } from './authenticate.ts';
import type { Caller } from './caller.ts';
import type { KeyRow } from './client-keys.ts';
import { hmacKey } from '@sallyport/protocol/keys.ts';

const caller: Caller = { kind: 'client', name: 'desktop', keyid: 'desktop', products: [] };
const row: KeyRow = { key: hmacKey(Buffer.alloc(32)), caller };
const HERE = 'broker.example.com';

type Asked = Parameters<ReturnType<typeof authenticate>>[0];

function asked(headers: Record<string, string>, authority: string | undefined = HERE): Asked {
  const fields = new Map(Object.entries(headers));
  return {
    method: 'GET',
    path: '/v1/models',
    query: '',
    fields,
    hasContent: false,
    authority,
    answerHeaders: [],
    requestId: 'req_1',
  };
}

function withAnswer(answer: () => Promise<KeyRow>) {
  const seen: { authority: string; tag: string }[] = [];
  const stage = authenticate(
    {
      signature({ authority }, tag) {
        seen.push({ authority, tag });
        return answer();
      },
    },
    'sallyport-v1',
  );
  return { stage, seen };
}

describe('who is calling', () => {
  for (const headers of [
    { signature: 'x', 'signature-input': 'x' },
    { signature: 'x' },
    { 'signature-input': 'x' },
    { signature: '', 'signature-input': '' },
    { signature: 'x', 'signature-input': 'x', authorization: 'Bearer sk-1' },
  ]) {
    it(`is asked of the signature when there is ${Object.keys(headers).join(', ')}`, async () => {
      const { stage, seen } = withAnswer(() => Promise.resolve(row));
      assert.deepEqual(await stage(asked(headers)), { caller });
      assert.deepEqual(seen, [{ authority: HERE, tag: 'sallyport-v1' }]);
    });
  }

  for (const headers of [{}, { authorization: 'Bearer sk-1' }, { 'x-api-key': 'k' }, { cookie: 'session=1' }]) {
    it(`is nobody with ${Object.keys(headers).join() || 'no header at all'}`, async () => {
      const { stage, seen } = withAnswer(() => Promise.resolve(row));
      await assert.rejects(() => stage(asked(headers)), { code: 'signature_required', status: 401 });
      assert.deepEqual(seen, []);
    });
  }

  it('does not fall through from a wrong signature to what stands beside it', async () => {
    const { stage } = withAnswer(() => Promise.reject(new Error('wrong')));
    await assert.rejects(() => stage(asked({ signature: 'x', authorization: 'Bearer sk-1' })), { message: 'wrong' });
  });

  it('is not asked where the broker cannot know the name it was called by', async () => {
    const { stage, seen } = withAnswer(() => Promise.resolve(row));
    const unknown: Asked = { ...asked({ signature: 'x', 'signature-input': 'x' }), authority: undefined };
    await assert.rejects(() => stage(unknown), { code: 'host_unproven', status: 421 });
    assert.deepEqual(seen, []);
  });
});

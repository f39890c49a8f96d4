import assert from 'node:assert/strict';
import { nameRequest } from './request-id.ts';

describe('the name of a request', () => {
  it('is new each time, in the answer, and never the caller’s own', () => {
    const names = new Set<string>();
    for (let i = 0; i < 100; i++) {
      const call = { answerHeaders: [] as string[], fields: new Map([['x-request-id', 'mine']]) };
      const { requestId } = nameRequest(call);
      assert.match(requestId, /^req_[0-9a-f-]{36}$/);
      assert.deepEqual(call.answerHeaders, ['x-request-id', requestId]);
      names.add(requestId);
    }
    assert.equal(names.size, 100);
  });
});

import assert from 'node:assert/strict';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { openLog } from '../log/logger.ts';
import { logAccess } from './access-log.ts';

const lines: string[] = [];
const { log, closeLog } = openLog({ level: 'info', destination: { write: (text) => void lines.push(text) } });

type Finished = Parameters<typeof logAccess>[1];

function line(finished: Partial<Finished> & Record<string, unknown>, error?: ApiError): Record<string, unknown> {
  lines.length = 0;
  logAccess(log, { response: { statusCode: 200, headersSent: true }, arrivedMs: 100, ...finished }, 112.34, error);
  assert.equal(lines.length, 1);
  const { severity, time, ...rest } = JSON.parse(lines[0]!);
  assert.equal(severity, 'INFO');
  assert.ok(!Number.isNaN(Date.parse(time)));
  return rest;
}

describe('the access log', () => {
  after(closeLog);

  it('says who asked what, by which rule, and how it ended', () => {
    const finished = {
      method: 'POST',
      path: '/v1/chat/completions',
      requestId: 'req_1',
      address: '192.0.2.1',
      caller: { kind: 'client', name: 'desktop' },
      product: { name: 'playground' },
      decision: { rule: 'products.playground.models[0]' },
      relayed: {
        provider: 'echo',
        upstreamStatus: 200,
        bytes: 7,
        end: 'cut',
        usage: { inputTokens: 3, outputTokens: 5, isEstimated: true },
        repeatedAfter: 'upstream_unreachable',
        error: new ApiError('upstream_cut', { cause: new Error('other side closed') }),
      },
    };
    assert.deepEqual(line(finished), {
      requestId: 'req_1',
      method: 'POST',
      path: '/v1/chat/completions',
      status: 200,
      ms: 12.3,
      address: '192.0.2.1',
      caller: 'desktop',
      product: 'playground',
      rule: 'products.playground.models[0]',
      provider: 'echo',
      upstreamStatus: 200,
      bytes: 7,
      end: 'cut',
      inputTokens: 3,
      outputTokens: 5,
      isEstimated: true,
      repeatedAfter: 'upstream_unreachable',
      code: 'upstream_cut',
      why: 'Error: other side closed',
    });
  });

  it('holds of a request that got nowhere what there was', () => {
    const response = { statusCode: 400, headersSent: true };
    assert.deepEqual(
      line({ response, requestId: 'req_1' }, new ApiError('header_repeated', { facts: { header: 'host' } })),
      {
        requestId: 'req_1',
        status: 400,
        ms: 12.3,
        code: 'header_repeated',
      },
    );
  });

  it('never holds a body, a query, a header or a secret, whatever lies on the call', () => {
    const secret = 'hunter2';
    const call = {
      body: Buffer.from(secret),
      json: { messages: secret },
      wish: { model: secret },
      query: `?key=${secret}`,
      fields: new Map([['authorization', secret]]),
      request: { headers: { authorization: secret }, rawHeaders: [secret], url: `/v1?key=${secret}` },
      answerHeaders: ['x-secret', secret],
      params: { product: secret },
      authority: secret,
      path: '/v1',
      caller: { kind: 'client', name: 'desktop', key: secret, products: [secret] },
      product: { name: 'p', models: [secret] },
    };
    const error = new ApiError('upstream_refused', { facts: { why: secret }, cause: new Error(secret) });
    assert.equal(JSON.stringify(line(call, error)).includes(secret), false);
    assert.equal(lines[0]!.includes(secret), false);
  });

  for (const [end, headersSent, status] of [
    ['hung up', false, 499],
    ['hung up', true, 200],
    ['cut', true, 200],
    ['whole', true, 200],
  ] as const) {
    it(`gives ${status} for an answer that was ${end}, headers ${headersSent ? '' : 'not '}sent`, () => {
      const relayed = { provider: 'echo', upstreamStatus: 0, bytes: 0, end };
      assert.equal(line({ response: { statusCode: 200, headersSent }, relayed })['status'], status);
    });
  }
});

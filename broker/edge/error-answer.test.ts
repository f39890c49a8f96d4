import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { openLog } from '../log/logger.ts';
import { answerError } from './error-answer.ts';

type Asked = { thrown: unknown; begun?: boolean; body?: string; announced?: number; answerHeaders?: string[] };
type Heard = { answer: IncomingMessage; text: string };

const lines: string[] = [];
const { log, closeLog } = openLog({ level: 'info', destination: { write: (line) => void lines.push(line) } });

// A real exchange; what it rejects with is what the caller's end of the connection was told.
async function heard({ thrown, begun = false, body, announced, answerHeaders = [] }: Asked): Promise<Heard> {
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    if (begun) response.write('half an ans');
    const act = () => answerError({ request, response, answerHeaders, requestId: 'req_1' }, thrown, log);
    if (body === undefined && announced === undefined) setImmediate(act);
    else request.once('data', () => setImmediate(act));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const request = httpRequest({ port, host: '127.0.0.1', method: body === undefined ? 'GET' : 'POST' });
    if (announced !== undefined) request.setHeader('content-length', announced);
    if (body !== undefined) request.write(body);
    if (announced === undefined) request.end();
    else request.on('error', () => {});
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    return { answer, text: Buffer.concat(await answer.toArray()).toString() };
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe('the answer to an error', () => {
  beforeEach(() => void lines.splice(0));
  after(closeLog);

  it('is its status, sentence, code and headers, in the shape that OpenAI’s clients read', async () => {
    const thrown = new ApiError('field_invalid', {
      param: 'model',
      facts: { field: 'model', why: 'must be there' },
      headers: { 'retry-after': '3' },
    });
    const { answer, text } = await heard({ thrown, answerHeaders: ['x-request-id', 'req_1'] });
    assert.equal(answer.statusCode, 400);
    assert.deepEqual(JSON.parse(text), {
      error: {
        message: 'model must be there.',
        type: 'invalid_request_error',
        param: 'model',
        code: 'field_invalid',
        request_id: 'req_1',
      },
    });
    const { headers } = answer;
    assert.equal(headers['retry-after'], '3');
    assert.equal(headers['x-request-id'], 'req_1');
    assert.equal(headers['content-type'], 'application/json; charset=utf-8');
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(Number(headers['content-length']), Buffer.byteLength(text));
    assert.deepEqual(lines, []);
  });

  for (const thrown of [
    new Error('the password is hunter2'),
    new TypeError('hunter2 of undefined'),
    Object.assign(new Error('hunter2'), { status: 400, expose: true, headers: { 'x-leak': 'hunter2' } }),
    'hunter2',
    { code: 'field_invalid', status: 400, message: 'hunter2' },
  ]) {
    it(`keeps the words of a mistake of ours inside: ${typeof thrown} ${String(thrown)}`, async () => {
      const { answer, text } = await heard({ thrown });
      assert.equal(answer.statusCode, 500);
      assert.equal(JSON.parse(text).error.code, 'internal');
      assert.doesNotMatch(`${text} ${answer.rawHeaders.join()}`, /hunter2|x-leak|stack|\.ts/);
    });
  }

  it('leaves the words of a mistake of ours in the log, under the id that the caller was told', async () => {
    await heard({ thrown: new Error('the cupboard is bare') });
    assert.equal(lines.length, 1);
    const { severity, requestId, code } = JSON.parse(lines[0]!);
    assert.deepEqual({ severity, requestId, code }, { severity: 'ERROR', requestId: 'req_1', code: 'internal' });
    assert.match(lines[0]!, /the cupboard is bare/);
  });

  it('logs what a provider did wrong as a warning, with its cause, and what a caller did not at all', async () => {
    await heard({ thrown: new ApiError('upstream_unreachable', { cause: new Error('no route to host') }) });
    assert.equal(lines.length, 1);
    assert.equal(JSON.parse(lines[0]!).severity, 'WARNING');
    assert.match(lines[0]!, /no route to host/);
    lines.length = 0;
    await heard({ thrown: new ApiError('signature_required') });
    await heard({ thrown: new ApiError('http_version_unsupported') });
    assert.deepEqual(lines, []);
  });

  it('breaks the connection when an answer has begun: a proper end would pass for the whole', async () => {
    await assert.rejects(heard({ thrown: new ApiError('upstream_cut'), begun: true }), { code: 'ECONNRESET' });
  });

  it('keeps the connection of a request that was read', async () => {
    for (const asked of [{}, { body: 'whole' }]) {
      const { answer } = await heard({ thrown: new ApiError('signature_required'), ...asked });
      assert.equal(answer.headers.connection, 'keep-alive');
    }
  });

  it('closes the connection when the body was not read: its rest would be waited for', async () => {
    const { answer } = await heard({ thrown: new ApiError('signature_required'), body: 'half', announced: 1000 });
    assert.equal(answer.headers.connection, 'close');
  });

  it('closes the connection when the error says so, and says it once', async () => {
    const thrown = new ApiError('header_repeated', { facts: { header: 'host' }, headers: { connection: 'close' } });
    const half = { body: 'half', announced: 1000 };
    for (const asked of [{}, half, { ...half, answerHeaders: ['connection', 'close'] }]) {
      const { answer } = await heard({ thrown, ...asked });
      assert.equal(answer.rawHeaders.filter((name) => name.toLowerCase() === 'connection').length, 1);
      assert.equal(answer.headers.connection, 'close');
    }
  });

  it('gives back the error it answered with, for the access log', () => {
    const done = { headersSent: true, destroy: () => {} } as unknown as ServerResponse;
    const exchange = { request: {} as IncomingMessage, response: done, answerHeaders: [] };
    const error = new ApiError('signature_required');
    assert.equal(answerError(exchange, error, log), error);
    const internal = answerError(exchange, 'words', log);
    assert.deepEqual([internal.code, internal.cause], ['internal', 'words']);
  });
});

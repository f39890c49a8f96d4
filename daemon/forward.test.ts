import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { digestMatches } from '@sallyport/protocol/content-digest.ts';
import { hmacKey } from '@sallyport/protocol/keys.ts';
import { isSignedBy, readSignature } from '@sallyport/protocol/profile.ts';
import {
  ask,
  CHAT,
  openDoorWorld,
  SIGNING_KEY,
  until,
  type Answering,
  type Arrived,
  type DoorWorld,
} from './door.test-support.ts';
import { IdentityError } from './identity-error.ts';
import { UplinkError } from './uplink-error.ts';

const EVENTS = [
  'data: {"choices":[{"delta":{"content":"one"}}]}\n\n',
  ': ping\n\n',
  'data: two\n\n',
  'data: [DONE]\n\n',
];

describe('a request on its way through the door', () => {
  let world: DoorWorld;
  before(async () => void (world = await openDoorWorld({ answerMs: 2_000, silenceMs: 500 })));
  after(() => world.close());
  beforeEach(() => {
    world.arrived.length = 0;
    world.state = 'active';
    world.answering = (_, response) => json(response, '{"ok":true}');
  });

  const json = (response: ServerResponse, body: string, more: object = {}) =>
    response
      .writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...more })
      .end(body);
  const sse = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' });
  /** Bytes in place of an answer that Node would write. */
  const raw = (bytes: string | Buffer, end: 'end' | 'destroy' = 'destroy'): Answering => {
    return (_, response) => response.socket!.write(bytes, () => response.socket?.[end]());
  };

  function isSigned({ method, url, headers, body }: Arrived, tag: 'sallyport-v1' | 'sallyport-device-v1'): boolean {
    const [path = '', query] = url.split('?');
    const fields = new Map(Object.entries(headers).map(([name, value]) => [name, String(value)]));
    const view = {
      method,
      authority: fields.get('host')!,
      path,
      query: query === undefined ? '' : `?${query}`,
      fields,
    };
    const read = readSignature({ ...view, hasContent: body.length > 0 }, tag);
    const digest = fields.get('content-digest');
    const isBody = digest === undefined ? body.length === 0 : digestMatches(digest, body);
    return isBody && isSignedBy(read, hmacKey(SIGNING_KEY.key.export()));
  }

  it('is signed as an app’s, with its bytes, its path and its query as they were', async () => {
    const body = `{"model":"echo" , "x":"\u00e9\ud83d\ude00"}`;
    const { status, text } = await world.ask({
      body,
      path: '/p/team-a/v1beta/models/m%3AgenerateContent?alt=sse&b=%c3%a9',
    });
    assert.deepEqual([status, text], [200, '{"ok":true}']);
    const [arrived] = world.arrived;
    assert.equal(arrived!.url, '/p/team-a/v1beta/models/m:generateContent?alt=sse&b=%C3%A9');
    assert.equal(arrived!.body.toString(), body);
    assert.equal(isSigned(arrived!, 'sallyport-v1'), true);
    assert.throws(() => isSigned(arrived!, 'sallyport-device-v1'));
    assert.equal(arrived!.headers['x-sallyport-app'], 'editor');
  });

  it('has no body and no type when it came without', async () => {
    assert.equal((await world.ask({ path: '/v1/models' })).status, 200);
    assert.equal((await world.ask({ path: '/v1/batches/b_1/cancel', method: 'POST', body: '' })).status, 200);
    for (const arrived of world.arrived) {
      assert.equal(arrived.headers['content-type'], undefined);
      assert.equal(isSigned(arrived, 'sallyport-v1'), true);
    }
  });

  it('carries no header of the app’s but those on the list', async () => {
    const sent: [string, string][] = [
      ...[
        'X-Sallyport-Product',
        'x-sallyport-app',
        'X-SALLYPORT-INSTALL',
        'x-sallyport-boot',
        'x-sallyport-time',
        'x-sallyport-max-cost',
      ].map((name): [string, string] => [name, 'forged']),
      ...['Signature', 'Signature-Input', 'signature-agent', 'Content-Digest', 'Authorization-Info'].map(
        (name): [string, string] => [name, 'forged'],
      ),
      ...[
        'Cookie',
        'Proxy-Authorization',
        'X-Serverless-Authorization',
        'X-Goog-IAP-JWT-Assertion',
        'x-goog-user-project',
      ].map((name): [string, string] => [name, 'forged']),
      ...['X-Forwarded-For', 'X-Forwarded-Host', 'Forwarded', 'Via', 'X-Real-IP', 'X_Sallyport_App'].map(
        (name): [string, string] => [name, 'forged'],
      ),
      ...['TE', 'Keep-Alive', 'Proxy-Connection', 'Accept-Encoding', 'Referer', 'DNT', 'X-Custom'].map(
        (name): [string, string] => [name, 'forged'],
      ),
      ['Connection', 'close, X-Sallyport-Install, Signature'],
      ['x-api-key', world.token],
      ['api-key', world.token],
      ['x-goog-api-key', world.token],
      ['Authorization', `Bearer ${world.token}`],
      ['Accept', 'text/event-stream'],
      ['Idempotency-Key', 'key-1'],
      ['anthropic-version', '2023-06-01'],
      ['OpenAI-Beta', 'assistants=v2'],
    ];
    const { status } = await world.ask({ body: CHAT, headers: sent.flat() });
    assert.equal(status, 200);
    const [arrived] = world.arrived;
    const written = arrived!.rawHeaders.join('\n');
    assert.doesNotMatch(written, /forged|spl_/);
    assert.deepEqual(Object.keys(arrived!.headers).toSorted(), [
      'accept', 'anthropic-version', 'connection', 'content-digest', 'content-length', 'content-type', 'host', 'idempotency-key',
      'openai-beta', 'signature', 'signature-input', 'x-sallyport-app', 'x-sallyport-boot', 'x-sallyport-install',
    ]); // prettier-ignore
    assert.deepEqual(
      [arrived!.headers['x-sallyport-app'], arrived!.headers['x-sallyport-install']],
      ['editor', 'inst_0001'],
    );
    assert.equal(isSigned(arrived!, 'sallyport-v1'), true);
  });

  for (const [what, headers] of [
    ['twice', ['Idempotency-Key', 'a', 'Idempotency-Key', 'b']],
    ['twice the same', ['Accept', 'a', 'Accept', 'a']],
    ['beyond ASCII', ['Idempotency-Key', 'k\xe9y']],
  ] as const) {
    it(`stays here when a header that would go along stands there ${what}`, async () => {
      const { status, text } = await world.ask({
        body: CHAT,
        headers: [...headers, 'Authorization', `Bearer ${world.token}`],
      });
      assert.equal(status, 400);
      assert.match(text, /header_malformed/);
      assert.deepEqual(world.arrived, []);
    });
  }

  const TYPES: [what: string, path: string, type: string | undefined, status: number][] = [
    ['JSON', '/v1/chat/completions', 'application/json', 200],
    ['JSON with its charset', '/v1/chat/completions', 'Application/JSON; charset=UTF-8', 200],
    ['what a form sends', '/v1/chat/completions', 'text/plain', 415],
    ['what a form sends, encoded', '/v1/chat/completions', 'application/x-www-form-urlencoded', 415],
    ['a file where none is taken', '/v1/chat/completions', 'multipart/form-data; boundary=b', 415],
    ['a file', '/v1/audio/transcriptions', 'multipart/form-data; boundary=b', 200],
    ['a file without a boundary', '/v1/audio/transcriptions', 'multipart/form-data', 415],
    ['another multipart', '/v1/files', 'multipart/mixed; boundary=b', 415],
    ['JSON that is something else', '/v1/chat/completions', 'application/json-seq', 415],
    ['JSON behind a form', '/v1/chat/completions', 'text/plain; application/json', 415],
    ['JSON in another charset', '/v1/chat/completions', 'application/json; charset=utf-16', 415],
    ['no type', '/v1/chat/completions', undefined, 415],
    ['two types', '/v1/chat/completions', 'application/json, text/plain', 415],
  ];
  for (const [what, path, type, status] of TYPES) {
    it(`${status === 200 ? 'may be' : 'may not be'} of this type: ${what}`, async () => {
      const headers = [
        'Authorization',
        `Bearer ${world.token}`,
        'Content-Length',
        '2',
        ...(type === undefined ? [] : ['Content-Type', type]),
      ];
      const request = httpRequest({
        port: world.port,
        method: 'POST',
        path,
        headers: ['Host', world.host, ...headers],
        agent: false,
      });
      request.end('{}');
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      response.resume();
      assert.equal(response.statusCode, status);
      assert.equal(world.arrived.length, status === 200 ? 1 : 0);
    });
  }

  it('may be neither compressed nor a GET with a body', async () => {
    const headers = ['Authorization', `Bearer ${world.token}`];
    assert.equal((await world.ask({ body: CHAT, headers: [...headers, 'Content-Encoding', 'gzip'] })).status, 415);
    assert.equal((await world.ask({ body: '{}', method: 'GET', path: '/v1/models', headers })).status, 400);
    assert.deepEqual(world.arrived, []);
  });

  it('brings a file whole, through a file that nobody else can read and that is gone afterwards', async () => {
    const body = randomBytes(3_000_000);
    const modes: number[] = [];
    world.answering = (_, response) => {
      for (const name of readdirSync(world.spoolFolder))
        modes.push(statSync(join(world.spoolFolder, name)).mode & 0o777);
      json(response, '{}');
    };
    const type = ['Content-Type', 'multipart/form-data; boundary=b'];
    const asked = { path: '/v1/files', body, headers: ['Authorization', `Bearer ${world.token}`, ...type] };
    assert.equal((await world.ask(asked)).status, 200);
    assert.equal(
      (await world.ask({ ...asked, headers: [...asked.headers, 'Transfer-Encoding', 'chunked'] })).status,
      200,
    );
    assert.deepEqual(modes, [0o600, 0o600]);
    for (const arrived of world.arrived) {
      assert.ok(arrived.body.equals(body));
      assert.equal(isSigned(arrived, 'sallyport-v1'), true);
    }
    await until(() => readdirSync(world.spoolFolder).length === 0);
  });

  it('brings home the bytes as they are, and of the headers those on the list', async () => {
    const body = randomBytes(2_000_000);
    world.answering = (_, response) => {
      const passed = {
        'content-type': 'audio/mpeg',
        'content-length': body.length,
        'x-request-id': 'req_1',
        'retry-after': '7',
        'x-ratelimit-remaining-requests': '3',
        'x-should-retry': 'false',
        'x-sallyport-overhead-ms': '1',
      };
      const kept =
        'set-cookie server x-powered-by x-sallyport-rotate metadata-flavor access-control-allow-origin location link';
      const more =
        'access-control-allow-credentials strict-transport-security alt-svc x-internal vary x-sallyport-time';
      const others = `${kept} ${more}`.split(' ').map((name) => [name, 'x']);
      response.writeHead(418, { ...passed, ...Object.fromEntries(others) });
      response.end(body);
    };
    const request = httpRequest({
      port: world.port,
      path: '/v1/models',
      headers: { authorization: `Bearer ${world.token}` },
      agent: false,
    }).end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    const pieces = await response.toArray();
    assert.equal(response.statusCode, 418);
    assert.ok(Buffer.concat(pieces as Buffer[]).equals(body));
    assert.deepEqual(Object.keys(response.headers).filter((name) => name !== 'date').toSorted(), [
      'connection', 'content-length', 'content-type', 'retry-after', 'x-ratelimit-remaining-requests', 'x-request-id',
      'x-sallyport-overhead-ms', 'x-should-retry',
    ]); // prettier-ignore
  });

  it('brings a stream home event by event, each when it comes, and together what came together', async () => {
    const steps: (() => void)[] = [];
    world.answering = (_, response) => {
      sse(response);
      for (const event of EVENTS) steps.push(() => response.write(event));
      steps.push(() => response.end());
    };
    const request = httpRequest({
      port: world.port,
      path: '/v1/models',
      headers: { authorization: `Bearer ${world.token}` },
      agent: false,
    }).end();
    await until(() => steps.length > 0);
    const read: string[] = [];
    request.on('response', (response: IncomingMessage) =>
      response.on('data', (piece: Buffer) => read.push(piece.toString())),
    );
    for (const [index, event] of EVENTS.entries()) {
      steps[index]!();
      await until(() => read.length === index + 1);
      assert.equal(read[index], event);
    }
    steps.at(-1)!();
    await once(request, 'close');
    const together = EVENTS.map((event) => `${event.length.toString(16)}\r\n${event}\r\n`).join('');
    world.answering = raw(
      `HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n${together}0\r\n\r\n`,
    );
    const { rawText } = await askRaw();
    assert.ok(
      rawText.includes(`\r\n\r\n${EVENTS.join('').length.toString(16)}\r\n${EVENTS.join('')}\r\n0\r\n\r\n`),
      rawText,
    );
  });

  /** The answer with its framing. */
  async function askRaw() {
    const request = httpRequest({
      port: world.port,
      path: '/v1/models',
      headers: { authorization: `Bearer ${world.token}` },
      agent: false,
    });
    const pieces: Buffer[] = [];
    request.on('socket', (socket) => socket.on('data', (piece: Buffer) => pieces.push(piece)));
    request.on('error', () => request.destroy());
    request.on('response', (response: IncomingMessage) => response.on('error', () => {}).resume());
    request.end();
    await once(request, 'close');
    return { rawText: Buffer.concat(pieces).toString() };
  }

  const chunked = (events: string[]) =>
    events.map((event) => `${event.length.toString(16)}\r\n${event}\r\n`).join('') + '0\r\n\r\n';
  const WHOLE: [what: string, bytes: string][] = [
    [
      'a stream',
      `HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n${chunked(EVENTS)}`,
    ],
    [
      'an answer in chunks',
      `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunked(['{"a":', '1}'])}`,
    ],
    [
      'an answer of a length',
      'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"ok": 1}',
    ],
  ];
  for (const [what, bytes] of WHOLE) {
    for (const end of ['end', 'destroy'] as const) {
      it(`never comes home short and seemingly whole: ${what}, cut at every byte by ${end}`, async function () {
        this.timeout(60_000);
        const body = { 'a stream': EVENTS.join(''), 'an answer in chunks': '{"a":1}' }[what] ?? '{"ok": 1}';
        for (let at = 0; at < bytes.length; at++) {
          world.answering = raw(bytes.slice(0, at), end);
          const { status, isWhole, text } = await world.ask({ body: CHAT });
          const isTold = status === 502 || status === 503;
          assert.ok(isTold ? isWhole && /sallyport status/.test(text) : !isWhole, `cut at ${at}: ${status} ${text}`);
          if (!isTold)
            assert.ok(
              body.startsWith(text.replace(/event: error\ndata: .*"broker_cut".*\n\n$/, '')),
              `cut at ${at}: ${text}`,
            );
        }
        world.answering = raw(bytes, end);
        const { status, isWhole, text } = await world.ask({ body: CHAT });
        assert.deepEqual([status, isWhole, text], [200, true, body]);
      });
    }
  }

  it('ends a stream that broke between two events with an error event, in the caller’s words', async () => {
    world.answering = (_, response) =>
      void sse(response).write('data: one\n\n', () => setImmediate(() => response.destroy()));
    for (const [path, isRight] of [
      ['/v1/chat/completions', /^data: one\n\nevent: error\ndata: \{"error":\{.*"code":"broker_cut"\}\}\n\n$/],
      ['/v1/messages', /^data: one\n\nevent: error\ndata: \{"type":"error","error":.*\}\n\n$/],
      ['/v1beta/models/m:streamGenerateContent', /^data: one\n\ndata: \{"error":\{"code":502,.*\}\}\n\n$/],
    ] as const) {
      const { text, isWhole } = await world.ask({ path, body: CHAT });
      assert.match(text, isRight);
      assert.equal(isWhole, false);
    }
  });

  it('adds no error of its own to the broker’s', async () => {
    const said = 'data: one\n\nevent: error\ndata: {"error":{"code":"upstream_cut"}}\n\n';
    world.answering = (_, response) => void sse(response).write(said, () => setImmediate(() => response.destroy()));
    const { text, isWhole } = await world.ask({ body: CHAT });
    assert.deepEqual([text, isWhole], [said, false]);
  });

  it('tells nothing in the middle of an event, and breaks off', async () => {
    world.answering = (_, response) =>
      void sse(response).write('data: one\n\ndata: {"tw', () => setImmediate(() => response.destroy()));
    const { text, isWhole } = await world.ask({ body: CHAT });
    assert.deepEqual([text, isWhole], ['data: one\n\ndata: {"tw', false]);
  });

  it('is broken off when the broker falls silent inside an answer, and not while the app does not read', async () => {
    world.answering = (_, response) => void sse(response).write('data: one\n\n');
    const { text, isWhole } = await world.ask({ body: CHAT });
    assert.match(text, /^data: one\n\nevent: error\ndata: .*"broker_slow"/);
    assert.equal(isWhole, false);
    await until(() => world.open === 0);
  });

  it('gives up when no answer comes at all', async () => {
    world.answering = () => {};
    const { status, headers, text } = await world.ask({ body: CHAT });
    assert.equal(status, 504);
    assert.match(text, /for 2 s.*sallyport status/);
    assert.equal(headers['x-should-retry'], 'false');
    await until(() => world.open === 0);
  });

  const GARBLED: [what: string, bytes: string][] = [
    ['a log-in page', 'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>'],
    ['a redirect', 'HTTP/1.1 302 Found\r\nLocation: https://login.example\r\nContent-Length: 0\r\n\r\n'],
    ['not modified', 'HTTP/1.1 304 Not Modified\r\n\r\n'],
    ['a compressed answer', 'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx'],
    ['an answer without an end', 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}'],
    ['an answer in HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx'],
    ['a status beyond all', 'HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n'],
    ['a switch of protocols', 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'],
  ];
  for (const [what, bytes] of GARBLED) {
    it(`is not answered by what is no broker: ${what}`, async () => {
      world.answering = raw(bytes, 'end');
      const { status, text, isWhole } = await world.ask({ path: '/v1/messages', body: CHAT });
      assert.equal(isWhole, true);
      assert.ok([502, 503, 504].includes(status), `${status} ${text}`);
      assert.equal((JSON.parse(text) as { type: string }).type, 'error');
      assert.match(text, /sallyport status/);
      assert.doesNotMatch(text, /<html>/);
      await until(() => world.open === 0);
    });
  }

  it('stays here while there is no key, and is told what to do', async () => {
    for (const [state, hint] of [
      ['none', 'sallyport enroll'],
      ['pending', 'sallyport status'],
    ] as const) {
      world.state = state;
      const { status, text } = await world.ask({ body: CHAT });
      assert.equal(status, 503);
      assert.ok(text.includes(hint), text);
    }
    // What was locked may be open by now.
    for (const state of ['rotating', 'locked'] as const) {
      world.state = state;
      assert.equal((await world.ask({ body: CHAT })).status, 200);
    }
    assert.equal(world.arrived.length, 2);
  });

  const FAILURES: [error: Error, status: number, retries: string | undefined][] = [
    [new UplinkError('broker_unreachable', 'Nothing listens.', { sent: false }), 503, undefined],
    [new UplinkError('broker_unreachable', 'It broke off.', { sent: true }), 503, 'false'],
    [new UplinkError('broker_timeout', 'No answer.', { sent: false }), 504, undefined],
    [new UplinkError('broker_tls', 'Expired.', { sent: false }), 502, undefined],
    [new UplinkError('broker_url', 'No URL.', { sent: false }), 503, undefined],
    [new UplinkError('broker_garbled', 'No HTTP.', { sent: true }), 502, 'false'],
    [new IdentityError('locked'), 503, undefined],
    [new Error('EACCES /home/somebody'), 500, undefined],
  ];
  for (const [error, status, retries] of FAILURES) {
    it(`says why it could not be sent: ${error.message}`, async () => {
      const other = await openDoorWorld({ uplink: () => ({ send: () => Promise.reject(error) }) });
      const answer = await other.ask({ body: CHAT });
      assert.equal(answer.status, status, answer.text);
      assert.equal(answer.headers['x-should-retry'], retries);
      if (status === 500) assert.doesNotMatch(answer.text, /EACCES|somebody/);
      else assert.ok(answer.text.includes(error.message) && answer.text.includes('sallyport status'), answer.text);
      assert.equal(other.logged.length, 1);
      await other.close();
    });
  }

  it('is refused before anything is read or sent when the broker is away', async () => {
    const other = await openDoorWorld();
    other.broker.close();
    other.broker.closeAllConnections();
    const { status, text } = await other.ask({ body: CHAT });
    assert.equal(status, 503);
    assert.match(text, /Nothing listens.*sallyport status/);
    await other.close();
  });

  const MOMENTS: [when: string, answering: Answering][] = [
    ['before the answer', () => {}],
    ['behind the head of the answer', (_, response) => sse(response).flushHeaders()],
    ['in the middle of a stream', (_, response) => void sse(response).write(EVENTS[0])],
    ['in the middle of a flood', (_, response) => flood(sse(response))],
    ['in the middle of an answer', (_, response) => void response.writeHead(200, { 'content-length': 10 }).write('{')],
  ];
  for (const [when, answering] of MOMENTS) {
    it(`is hung up on at the broker within moments when the app hangs up ${when}`, async () => {
      world.answering = answering;
      for (const way of ['destroy', 'resetAndDestroy', 'end'] as const) {
        await until(() => world.open === 0);
        const request = httpRequest({
          port: world.port,
          method: 'POST',
          path: '/v1/chat/completions',
          agent: false,
          headers: { authorization: `Bearer ${world.token}`, 'content-type': 'application/json' },
        });
        request.on('error', () => {});
        request.on('response', (response: IncomingMessage) => response.on('error', () => {}));
        request.end(CHAT);
        await until(() => world.open === 1);
        await new Promise((resolve) => setTimeout(resolve, 30));
        request.socket![way]();
        assert.ok((await until(() => world.open === 0)) < 200);
        request.destroy();
      }
    });
  }

  it('leaves no orphan when sixty apps hang up at once, at any byte', async () => {
    world.answering = (_, response) => flood(sse(response));
    const requests = Array.from({ length: 60 }, (_, n) => {
      const request = httpRequest({
        port: world.port,
        path: '/v1/models',
        agent: false,
        headers: { authorization: `Bearer ${world.token}` },
      });
      let left = n * 997;
      request.on('error', () => {});
      request.on('response', (response: IncomingMessage) => {
        response.on('error', () => {});
        response.on('data', (piece: Buffer) => (left -= piece.length) < 0 && request.destroy());
      });
      request.end();
      return request;
    });
    await Promise.all(requests.map((request) => once(request, 'close')));
    await until(() => world.open === 0);
  });

  it('holds little for an app that does not read, and then brings every byte', async () => {
    const total = 64 * 1024 * 1024;
    let written = 0;
    world.answering = (_, response) => {
      sse(response);
      const piece = Buffer.alloc(64 * 1024, 'a');
      const more = () => {
        while (written < total) {
          written += piece.length;
          if (!response.write(piece)) return void response.once('drain', more);
        }
        response.end();
      };
      more();
    };
    const request = httpRequest({
      port: world.port,
      path: '/v1/models',
      agent: false,
      headers: { authorization: `Bearer ${world.token}` },
    }).end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.pause();
    // Longer than a silence of the broker may last: this one is the app's.
    await new Promise((resolve) => setTimeout(resolve, 800));
    assert.ok(written < 24 * 1024 * 1024, `${written} bytes were taken from the broker`);
    let read = 0;
    response.on('data', (piece: Buffer) => (read += piece.length));
    response.resume();
    await once(response, 'end');
    assert.deepEqual([read, response.complete], [total, true]);
  });

  function flood(response: ServerResponse): void {
    const more = () => {
      while (!response.destroyed && response.write(EVENTS[0]!.repeat(50)));
    };
    response.on('drain', more);
    more();
  }

  it('asks nobody to continue whom it would refuse', async () => {
    const { text } = await ask(world.port, { body: CHAT, headers: ['Expect', '100-continue'] });
    assert.match(text, /token_missing/);
    const socket = connect(world.port, '127.0.0.1');
    const lines = [
      `Host: ${world.host}`,
      `Authorization: Bearer ${world.token}`,
      'Expect: 100-continue',
      'Connection: close',
    ];
    const about = ['Content-Type: application/json', `Content-Length: ${CHAT.length}`];
    socket.write(`POST /v1/chat/completions HTTP/1.1\r\n${[...lines, ...about].join('\r\n')}\r\n\r\n`);
    const [leave] = (await once(socket, 'data')) as [Buffer];
    assert.equal(leave.toString(), 'HTTP/1.1 100 Continue\r\n\r\n');
    socket.write(CHAT);
    assert.match(String((await socket.toArray()).join('')), /^HTTP\/1\.1 200 OK/);
  });
});

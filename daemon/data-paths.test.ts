import assert from 'node:assert/strict';
import { dialectOf, readDataPath, type DataPath, type Dialect } from './data-paths.ts';
import { DoorError, type DoorErrorCode } from './door-errors.ts';

const refused = (code: DoorErrorCode) => (error: unknown) => error instanceof DoorError && error.code === code;

describe('the paths that an app may ask for', () => {
  const ALLOWED: [method: string, target: string, goesTo?: Partial<DataPath>][] = [
    ['POST', '/v1/chat/completions'],
    ['POST', '/v1/chat/team-a'],
    ['GET', '/v1/chat/completions/chatcmpl-1/messages', {}],
    ['POST', '/v1/responses'],
    ['GET', '/v1/responses/resp_1'],
    ['POST', '/v1/responses/resp_1/cancel'],
    ['POST', '/v1/completions'],
    ['POST', '/v1/embeddings'],
    ['GET', '/v1/models'],
    ['GET', '/v1/models/gpt-4o'],
    ['GET', '/v1/models/ft:gpt-4o:acme::id'],
    ['POST', '/v1/messages'],
    ['POST', '/v1/messages/count_tokens'],
    ['POST', '/v1beta/models/gemini-pro:generateContent'],
    ['POST', '/v1beta/models/gemini-pro%3AgenerateContent', { path: '/v1beta/models/gemini-pro:generateContent' }],
    ['POST', '/v1beta/models/gemini-pro%3astreamGenerateContent?alt=sse', { query: '?alt=sse' }],
    ['POST', '/v1/images/generations', { takesUpload: false }],
    ['POST', '/v1/images/edits', { takesUpload: true }],
    ['POST', '/v1/audio/speech', { takesUpload: false }],
    ['POST', '/v1/audio/transcriptions', { takesUpload: true }],
    ['POST', '/v1/files', { takesUpload: true }],
    ['GET', '/v1/files/file-1/content'],
    ['DELETE', '/v1/files/file-1'],
    ['POST', '/v1/batches'],
    ['POST', '/v1/batches/b_1/cancel'],
    ['POST', '/p/team-a/v1/chat/completions', { path: '/p/team-a/v1/chat/completions' }],
    ['GET', '/p/team-a/v1/models'],
    ['POST', '/p/team-a/v1beta/models/gemini-pro:generateContent'],
    ['POST', '/openai/deployments/d/chat/completions?api-version=2024-10-21', { query: '?api-version=2024-10-21' }],
    ['POST', '/openai/bedrock_us1/chat/completions'],
    ['POST', '/transparent/bedrock/model/claude-3/invoke'],
    ['POST', '/anthropic/eu/v1/messages'],
    ['POST', '/protocol/gemini/eu/v1beta/models/m:generateContent'],
    ['POST', '/model/anthropic.claude-3/invoke'],
    ['GET', '/v1/models?', { path: '/v1/models', query: '' }],
    ['GET', '/v1/models?limit=%c3%a9', { query: '?limit=%C3%A9' }],
  ];
  for (const [method, target, goesTo = {}] of ALLOWED) {
    it(`are those that models answer at: ${method} ${target}`, () => {
      const found = readDataPath(method, target);
      for (const [name, value] of Object.entries(goesTo)) assert.equal(found[name as keyof DataPath], value);
      assert.equal(
        found.path + found.query,
        target.replace(/%3a/gi, ':').replace('%c3%a9', '%C3%A9').replace(/\?$/, ''),
      );
    });
  }

  const UNKNOWN = [
    '/v1/whoami',
    '/v1/keys/rotate',
    '/v1/keys',
    '/v1/enroll',
    '/v1/enroll/challenge',
    '/v1',
    '/v1/',
    '/v1/chat',
    '/v1/chat/',
    '/v1/chatter',
    '/v1/google/token',
    '/token',
    '/api/v1/providers',
    '/api/v1/devices/d/revoke',
    '/api/openai/v1/chat/completions',
    '/p/team-a/v1/whoami',
    '/p/team-a/v1/keys/rotate',
    '/p/team-a/api/v1/providers',
    '/p/team-a/p/team-b/v1/chat/completions',
    '/p/v1/chat/completions',
    '/p/a/b/v1/chat/completions',
    '/health',
    '/ready',
    '/metrics',
    '/login',
    '/keys/rotate/now',
    '/api/v1/x',
    '/protocol/api/v1/x',
    '/protocol/keys/v1/rotate',
    '/transparent/openai',
    '/openai',
    '/model/m',
    '/v2/models',
    '/V1/models',
    '/v1/Models',
    '/v1/models/',
    '/computeMetadata/v1',
    '/computeMetadata/v1/instance/service-accounts/default/token',
    '/favicon.ico',
    '/control',
    '/apps',
  ];
  for (const path of UNKNOWN) {
    it(`are no others: ${path}`, () => {
      for (const method of ['GET', 'POST', 'DELETE'])
        assert.throws(() => readDataPath(method, path), refused('path_unknown'));
    });
  }

  const MALFORMED = [
    'v1/models',
    '*',
    '',
    'http://127.0.0.1:8787/v1/models',
    'http://broker.example.com/v1/models',
    'broker.example.com:443',
    '//v1/models',
    '//broker.example.com/v1/models',
    '/v1//models',
    '/v1/models//',
    '/v1/./models',
    '/v1/../v1/models',
    '/v1/chat/../keys/rotate',
    '/v1/chat/..',
    '/v1/chat/.',
    '/v1/chat/%2e%2e/keys/rotate',
    '/v1/chat/..%2fkeys',
    '/v1/chat%2Fcompletions',
    '/v1/%6Dodels',
    '/v1/models/%',
    '/v1/models/%3',
    '/v1/models/a%253Ab',
    '/v1/models/a%00',
    '/v1/models#f',
    '/v1/models\\..\\keys',
    '/v1/models/ä',
    '/v1/models/a b',
    '/v1/models/"x"',
    '/v1/models?a=%',
    '/v1/models?a=%zz',
    '/v1/models?a=#',
    '/v1/models?a={}',
    '/v1/models?a=ä',
    '/v1/models?key=spl_abc',
    '/v1/models?key=spl%5fabc',
    '/v1beta/models/spl_abc:generateContent',
  ];
  for (const target of MALFORMED) {
    it(`are written in one way: ${JSON.stringify(target)}`, () => {
      for (const method of ['GET', 'POST'])
        assert.throws(() => readDataPath(method, target), refused('target_malformed'));
    });
  }

  it('are refused with the reason that helps', () => {
    for (const [target, why] of [
      ['/v1/chat%2Fcompletions', /percent-encoding/],
      ['http://a/v1/models', /begin with a slash/],
      ['/v1//models', /empty segment/],
      ['/v1/models?key=spl_a', /send it as a header/],
    ] as const) {
      assert.throws(() => readDataPath('GET', target), why);
    }
  });

  for (const [method, target, allow] of [
    ['GET', '/v1/chat/completions', 'POST'],
    ['DELETE', '/v1/models', 'GET'],
    ['PUT', '/v1/files', 'GET, POST'],
    ['PATCH', '/v1/chat/completions', 'POST'],
    ['HEAD', '/v1/models', 'GET'],
    ['OPTIONS', '/v1/models', 'GET'],
    ['TRACE', '/v1/models', 'GET'],
    ['CONNECT', '/v1/models', 'GET'],
    ['post', '/v1/embeddings', 'POST'],
  ] as const) {
    it(`take their methods alone: ${method} ${target}`, () => {
      assert.throws(
        () => readDataPath(method, target),
        (error) =>
          refused('method_refused')(error) &&
          (error as DoorError).headers['allow']!.split(', ').includes(allow.split(', ')[0]!),
      );
    });
  }

  const DIALECTS: [target: string, dialect: Dialect][] = [
    ['/v1/chat/completions', 'openai'],
    ['/v1/messages', 'anthropic'],
    ['/v1/messages/count_tokens?beta=true', 'anthropic'],
    ['/v1/messagesx', 'openai'],
    ['/p/team-a/v1/messages', 'anthropic'],
    ['/v1beta/models/m:generateContent', 'google'],
    ['/p/team-a/v1beta/models', 'google'],
    ['/anthropic/eu/v1/messages', 'anthropic'],
    ['/gemini/eu/models/m:generateContent', 'google'],
    ['/v1/chat/x?/v1/messages', 'openai'],
    ['/nothing', 'openai'],
    ['', 'openai'],
  ];
  for (const [target, dialect] of DIALECTS) {
    it(`tell the dialect of their caller: ${target} is ${dialect}`, () => assert.equal(dialectOf(target), dialect));
  }
});

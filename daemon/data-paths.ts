import { DoorError } from './door-errors.ts';

/** How the caller expects to be answered, errors above all. */
export type Dialect = 'openai' | 'anthropic' | 'google';

/** Where a request goes, as it will be signed and sent. */
export type DataPath = {
  path: string;
  /** `?` and what follows, or the empty string. */
  query: string;
  /** Whether a file may be sent along, as multipart. */
  takesUpload: boolean;
};

type Row = readonly [methods: string, path: string, upload?: 'upload'];

// `{}` is one segment, and `…` one or more. What is not here does not exist: the daemon signs whatever it forwards, and the
// broker has addresses (enrolment, keys, Google tokens, settings) that no app may reach through it.
// prettier-ignore
const OF_PRODUCTS: readonly Row[] = [
  ['POST',            '/v1/chat/completions'],
  ['POST',            '/v1/chat/{}'],
  ['GET POST DELETE', '/v1/chat/completions/…'],
  ['POST',            '/v1/responses'],
  ['GET POST DELETE', '/v1/responses/…'],
  ['POST',            '/v1/completions'],
  ['POST',            '/v1/embeddings'],
  ['GET',             '/v1/models'],
  ['GET',             '/v1/models/…'],
  ['POST',            '/v1/messages'],
  ['GET POST DELETE', '/v1/messages/…'],
  ['GET POST DELETE', '/v1beta/…'],
  ['POST',            '/v1/images/edits',            'upload'],
  ['POST',            '/v1/images/variations',       'upload'],
  ['POST',            '/v1/images/…'],
  ['POST',            '/v1/audio/transcriptions',    'upload'],
  ['POST',            '/v1/audio/translations',      'upload'],
  ['POST',            '/v1/audio/…'],
  ['GET POST',        '/v1/files',                   'upload'],
  ['GET DELETE',      '/v1/files/…'],
  ['GET POST',        '/v1/batches'],
  ['GET POST',        '/v1/batches/…'],
  ['GET',             '/v1/realtime'],
];

// prettier-ignore
const ALONE: readonly Row[] = [
  ['GET POST DELETE', '/openai/…',                   'upload'],
  ['GET POST DELETE', '/transparent/{}/…',           'upload'],
  ['POST',            '/model/{}/…'],
  // Each dialect by its name: a free first segment would take in /v1/keys/… and /api/v1/… as well.
  ...['anthropic', 'gemini', 'bedrock', 'watsonx', 'cohere'].map((name): Row => ['GET POST', `/${name}/{}/…`]),
  ...['openai', 'anthropic', 'gemini', 'bedrock', 'watsonx', 'cohere'].map((name): Row => ['GET POST', `/protocol/${name}/{}/…`]),
];

/** The table: method, path, and whether it takes files. */
export const DATA_PATHS: readonly Row[] = [
  ...OF_PRODUCTS,
  ...OF_PRODUCTS.map(([methods, path, ...rest]): Row => [methods, `/p/{}${path}`, ...rest]),
  ...ALONE,
];

const ROUTES = DATA_PATHS.map(([methods, path, upload]) => ({
  methods: methods.split(' '),
  // No row has a character that means something else in a pattern.
  pattern: new RegExp(`^${path.replaceAll('{}', '[^/]+').replaceAll('…', '[^/]+(?:/[^/]+)*')}$`),
  upload: upload !== undefined,
}));

const PATH = /^\/[A-Za-z0-9._~:@!$&'()*+,;=/-]*$/;
const QUERY = /^\?(?:[A-Za-z0-9._~:@!$&'()*+,;=/?[\]-]|%[0-9A-F]{2})+$/;
const DOT_SEGMENT = /\/\.{1,2}(?:\/|$)/;

/** Reads the target of a request, and says where it goes; throws where no app has anything to look for. */
export function readDataPath(method: string, target: string): DataPath {
  const { path, query } = splitTarget(target);
  const found = ROUTES.filter(({ pattern }) => pattern.test(path));
  if (found.length === 0) throw new DoorError('path_unknown');
  const route = found.find(({ methods }) => methods.includes(method));
  if (route === undefined) {
    const allowed = [...new Set(found.flatMap(({ methods }) => methods))].join(', ');
    throw new DoorError('method_refused', { facts: { allowed }, headers: { allow: allowed } });
  }
  return { path, query, takesUpload: route.upload };
}

/** The dialect that the caller of this target reads; anything unknown reads OpenAI's. */
export function dialectOf(target: string): Dialect {
  const path = target.split('?', 1)[0]!.replace(/^\/p\/[^/]+/, '');
  if (/^\/v1\/messages(?:\/|$)|^(?:\/protocol)?\/anthropic\/|^\/transparent\/anthropic\//.test(path))
    return 'anthropic';
  if (/^\/v1beta\/|^(?:\/protocol)?\/gemini\/|^\/transparent\/gemini\//.test(path)) return 'google';
  return 'openai';
}

function splitTarget(target: string): { path: string; query: string } {
  if (!target.startsWith('/')) throw malformed('it must begin with a slash, without scheme or host');
  const at = target.indexOf('?');
  // A colon is what client libraries encode without need (models/name:generateContent, and ids with a version).
  const path = (at === -1 ? target : target.slice(0, at)).replace(/%3a/gi, ':');
  // One spelling: a front end may write the letters of an escape anew, and the signature would no longer hold.
  const query = (at === -1 ? '' : target.slice(at)).replace(/%[0-9a-f]{2}/gi, (escape) => escape.toUpperCase());
  // An address is written to logs on the whole way.
  if (/spl(?:_|%5F)/.test(path + query)) throw malformed('an app token does not belong there; send it as a header');
  if (path.includes('%')) throw malformed('percent-encoding in the path is read differently by different front ends');
  if (path.includes('//')) throw malformed('the path has an empty segment');
  if (DOT_SEGMENT.test(path)) throw malformed('the path has a dot segment');
  if (!PATH.test(path)) throw malformed('the path has a character that does not belong there');
  if (query === '' || query === '?') return { path, query: '' };
  if (!QUERY.test(query)) throw malformed('the query has a character that must be percent-encoded');
  return { path, query };
}

function malformed(why: string): DoorError {
  return new DoorError('target_malformed', { facts: { why } });
}

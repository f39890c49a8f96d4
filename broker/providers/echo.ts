import { hash, randomUUID } from 'node:crypto';
import type { Config } from '../config/config.ts';
import type { Provider } from './provider.ts';
import { ScriptedDispatcher, type Script } from './scripted-dispatcher.ts';

type Settings = Extract<Config['providers'][number], { kind: 'echo' }>;
type Message = { role?: unknown; content?: unknown } | null;
type Asked = {
  model: string;
  messages?: Message[];
  input?: unknown;
  stream?: boolean;
  stream_options?: { include_usage?: boolean } | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  encoding_format?: string;
  dimensions?: number;
};

const PATHS = { chat: '/chat/completions', embeddings: '/embeddings' } as const;
const HOUR_MS = 3_600_000;
const MOST_WORDS = 100_000;
const DIMENSIONS = 8;

/** The model that is built in: it repeats what it is told, so that a first run and a test need no vendor and no key. */
export function echo({ name, models }: Settings, now: () => number): Provider {
  return {
    name,
    models,
    dispatcher: new ScriptedDispatcher((path, body) => writeScript(path, body, now)),
    origin: 'http://echo.invalid',
    paths: PATHS,
    credential: () => [],
    maxTokensField: 'max_tokens',
    timeouts: { headersMs: HOUR_MS, firstByteMs: HOUR_MS, idleMs: HOUR_MS, totalMs: HOUR_MS },
  };
}

/** The lines a message to the echo may begin with, to make it behave as a troubled vendor would. */
export const DIRECTIVES = {
  '/delay': 'milliseconds before the answer begins',
  '/pause': 'milliseconds after each word',
  '/words': 'answer with this many words',
  '/fail': 'answer with this status instead',
  '/cut': 'break the connection after this many words',
  '/stall': 'fall silent after this many words',
} as const;

type Directive = keyof typeof DIRECTIVES;

function writeScript(path: string, body: Buffer, now: () => number): Script {
  // The gate has read these very bytes before they came here.
  const asked = JSON.parse(body.toString()) as Asked;
  return path === PATHS.embeddings ? embed(asked) : answer(asked, now);
}

function answer(asked: Asked, now: () => number): Script {
  const messages = asked.messages ?? [];
  const said = textOf(messages.findLast((message) => message?.role === 'user') ?? messages.at(-1) ?? {});
  const { orders, rest } = takeDirectives(said);
  const status = orders.get('/fail');
  if (status !== undefined && status >= 400 && status <= 599) return failure(status);

  const full = orders.has('/words')
    ? Array.from({ length: Math.min(orders.get('/words')!, MOST_WORDS) }, (_, index) => `word${index + 1} `)
    : splitWords(`This is the built-in echo, not an AI model. You said: ${rest}`);
  const most = asked.max_completion_tokens ?? asked.max_tokens ?? Infinity;
  const words = full.slice(0, most);
  const finishReason = words.length < full.length ? 'length' : 'stop';
  const promptTokens = messages.reduce((sum, message) => sum + splitWords(textOf(message)).length, 0);
  const usage = {
    prompt_tokens: promptTokens,
    completion_tokens: words.length,
    total_tokens: promptTokens + words.length,
  };
  const manner = {
    delayMs: orders.get('/delay') ?? 0,
    pauseMs: orders.get('/pause') ?? 0,
    cutAfter: orders.get('/cut'),
    stallAfter: orders.get('/stall'),
  };
  const head = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(now() / 1000), model: asked.model };
  if (asked.stream === true) {
    const wantsUsage = asked.stream_options?.include_usage === true;
    return { ...stream(head, words, finishReason, wantsUsage ? usage : undefined), ...manner };
  }
  return { ...inWords(whole(head, words, finishReason, usage), words.length), ...manner };
}

type Head = { id: string; created: number; model: string };

function whole(head: Head, words: string[], finishReason: string, usage: object): Script {
  const message = { role: 'assistant', content: words.join(''), refusal: null };
  const choices = [{ index: 0, message, logprobs: null, finish_reason: finishReason }];
  return json(200, { ...head, object: 'chat.completion', choices, usage });
}

function stream(head: Head, words: string[], finishReason: string, usage: object | undefined): Script {
  const event = (delta: object, finish: string | null) => {
    const choices = [{ index: 0, delta, logprobs: null, finish_reason: finish }];
    return frame({
      ...head,
      object: 'chat.completion.chunk',
      choices,
      ...(usage === undefined ? {} : { usage: null }),
    });
  };
  const chunks = words.map((word, index) =>
    event(index === 0 ? { role: 'assistant', content: word } : { content: word }, null),
  );
  chunks.push(event({}, finishReason));
  if (usage !== undefined) chunks.push(frame({ ...head, object: 'chat.completion.chunk', choices: [], usage }));
  chunks.push(Buffer.from('data: [DONE]\n\n'));
  return { status: 200, headers: { 'content-type': 'text/event-stream' }, chunks };
}

// Not a meaning, only a number that is the same for the same text.
function embed(asked: Asked): Script {
  const inputs = Array.isArray(asked.input) ? asked.input : [asked.input];
  const dimensions = Math.min(asked.dimensions ?? DIMENSIONS, 4096);
  const data = inputs.map((input, index) => {
    const text = typeof input === 'string' ? input : JSON.stringify(input);
    const seed = hash('sha256', text, 'buffer');
    const vector = Float32Array.from({ length: dimensions }, (_, i) => (seed[i % seed.length]! - 128) / 128);
    const isBase64 = asked.encoding_format === 'base64';
    return {
      object: 'embedding',
      index,
      embedding: isBase64 ? Buffer.from(vector.buffer).toString('base64') : [...vector],
    };
  });
  const tokens = inputs.reduce<number>((sum, input) => sum + splitWords(String(input)).length, 0);
  return json(200, {
    object: 'list',
    data,
    model: asked.model,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  });
}

function failure(status: number): Script {
  const error = {
    message: `The echo was told to fail with ${status}.`,
    type: 'echo_error',
    param: null,
    code: 'echo_failure',
  };
  return json(status, { error });
}

// A whole answer is cut or stalled within its bytes, as far in as its words are.
function inWords(script: Script, words: number): Script {
  const bytes = script.chunks[0]!;
  const size = Math.ceil(bytes.length / Math.max(1, words));
  const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
    bytes.subarray(i * size, (i + 1) * size),
  );
  return { ...script, chunks };
}

function json(status: number, value: object): Script {
  const bytes = Buffer.from(JSON.stringify(value));
  const headers = { 'content-type': 'application/json', 'content-length': String(bytes.length) };
  return { status, headers, chunks: [bytes] };
}

function frame(value: object): Buffer {
  return Buffer.from(`data: ${JSON.stringify(value)}\n\n`);
}

function takeDirectives(said: string): { orders: Map<Directive, number>; rest: string } {
  const orders = new Map<Directive, number>();
  const lines = said.split('\n');
  while (lines.length > 0) {
    const match = /^(\/[a-z]+) (\d{1,7})$/.exec(lines[0]!.trim());
    const [, name = '', value] = match ?? [];
    if (!(name in DIRECTIVES)) break;
    orders.set(name as Directive, Number(value));
    lines.shift();
  }
  return { orders, rest: lines.join('\n') };
}

// A content is a text or a list of parts, of which only those that are text can be repeated.
function textOf(message: Message): string {
  const content = message?.content;
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content.map((part: { text?: unknown } | null) => (typeof part?.text === 'string' ? part.text : '')).join(' ');
}

// A word keeps the space behind it, so that the words together are the text again. One word counts as one token.
function splitWords(text: string): string[] {
  return text.match(/\S+\s*/g) ?? [];
}

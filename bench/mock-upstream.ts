import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

// The stand-in for mock-upstream.c on a machine without a C compiler; it says what mock-answers.h says: change both.
// It is several times slower, so nginx in front of it cannot be told from nginx waiting for it.

const ID = 'chatcmpl-bench0000000000000000000000';
const USAGE = { prompt_tokens: 187, completion_tokens: 42, total_tokens: 229 };
const CONTENT =
  'A sally port is a small, well guarded door in a fortification. It lets the people inside come out to meet whoever ' +
  'is at the wall, and it is built so that nobody outside can use it to get in.';

const COMPLETION = JSON.stringify({
  id: ID,
  object: 'chat.completion',
  created: 1767225600,
  model: 'bench',
  choices: [
    {
      index: 0,
      message: { role: 'assistant', content: CONTENT, refusal: null },
      logprobs: null,
      finish_reason: 'stop',
    },
  ],
  usage: USAGE,
  service_tier: 'default',
  system_fingerprint: 'fp_bench00000',
});

const WORD = event({ choices: [{ index: 0, delta: { content: ' fortress' }, finish_reason: null }] });
const LAST = event({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] });
const USAGE_EVENT = event({ choices: [], usage: USAGE });

let streams = 0;

const server = createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts).toString();
    if (request.method === 'GET') return answer(response, `{"object":"list","data":[],"streams":${streams}}`);
    if (!/"stream": ?true/.test(body)) return answer(response, COMPLETION);
    return void answerStream(response, body);
  });
});

server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
process.stdin.on('end', () => process.exit()).resume();

function answer(response: ServerResponse, json: string): void {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(json) });
  response.end(json);
}

async function answerStream(response: ServerResponse, body: string): Promise<void> {
  const [, events = '50', paceMs] = /"bench-(\d+)(?:-(\d+)ms)?"/.exec(body) ?? [];
  streams++;
  response.once('close', () => streams--);
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  const began = performance.now();
  for (let sent = 0; sent < Number(events); sent++) {
    if (paceMs !== undefined && sent > 0) await sleep(Math.max(0, began + sent * Number(paceMs) - performance.now()));
    if (response.destroyed) return;
    response.write(sent + 1 < Number(events) ? WORD : LAST);
  }
  if (body.includes('"include_usage":true')) response.write(USAGE_EVENT);
  response.end('data: [DONE]\n\n');
}

function event(rest: object): string {
  const chunk = { id: ID, object: 'chat.completion.chunk', created: 1767225600, model: 'bench', ...rest };
  return `data: ${JSON.stringify(chunk)}\n\n`;
}

import { Connection } from './connection.ts';
import type { Ask, RequestSource } from './request-source.ts';

/** Asks once, reads the whole answer, and throws unless it is what the mock said; gives its length in bytes. */
export async function checkAnswer(port: number, source: RequestSource, ask: Ask): Promise<number> {
  const connection = new Connection(port, true);
  try {
    const { status, body = '', bodyBytes } = await connection.send(source.next());
    if (status !== 200) throw new Error(`answered ${status}: ${body.slice(0, 500)}`);
    const wrong = ask.stream ? faultOfStream(body, ask.events) : faultOfCompletion(body);
    if (wrong !== undefined) throw new Error(`${wrong}: ${body.slice(0, 500)}`);
    return bodyBytes;
  } finally {
    connection.close();
  }
}

function faultOfCompletion(body: string): string | undefined {
  const completion: unknown = JSON.parse(body);
  const text = JSON.stringify(pick(completion, 'choices')) ?? '';
  if (!text.includes('A sally port is a small, well guarded door')) return 'the answer is not the one of the mock';
  return pick(pick(completion, 'usage'), 'total_tokens') === 229 ? undefined : 'the usage is not the one of the mock';
}

// An event without choices is the usage, which a gateway that meters may ask for and pass on.
function faultOfStream(body: string, expected: number): string | undefined {
  const events = body.split('\n\n').filter((event) => event.startsWith('data: '));
  if (events.pop() !== 'data: [DONE]') return 'the stream does not end with [DONE]';
  const spoken = events.filter((event) => {
    const choices = pick(JSON.parse(event.slice(6)), 'choices');
    return Array.isArray(choices) && choices.length > 0;
  });
  return spoken.length === expected ? undefined : `${spoken.length} events where ${expected} were sent`;
}

function pick(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
}

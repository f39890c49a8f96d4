import assert from 'node:assert/strict';
import { OpenAI, APIError } from 'openai';
import type { Fault } from './fault-proxy.ts';
import { signingFetch } from './signing-fetch.ts';
import { openWorld, type Vendor, type World } from './world.ts';

const CASES = process.env['PROVE'] === 'full' ? 5_000 : 500;
const AT_ONCE = 25;

const WORDS = Array.from({ length: 10 }, (_, index) => `word${index} `);
const TEXT = WORDS.join('');
const chunk = (delta: object, finish: string | null) =>
  `data: ${JSON.stringify({ id: 'c1', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
const EVENTS = [...WORDS.map((content) => chunk({ content }, null)), chunk({}, 'stop'), 'data: [DONE]\n\n'];

// Each event is a chunk of the transfer too, so that what is broken may be the framing as well.
const sayEvents: Vendor = (_, __, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream', connection: 'close' });
  for (const event of EVENTS) response.write(event);
  response.end();
};
const framed = (event: string) => event.length.toString(16).length + 2 + event.length + 2;
const BOUNDARIES = EVENTS.reduce<number[]>((ends, event) => [...ends, ends.at(-1)! + framed(event)], [0]);
const BODY_BYTES = BOUNDARIES.at(-1)! + '0\r\n\r\n'.length;

// Fixed, so that a failure can be run again; the number is written into it.
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function faults(count: number): Fault[][] {
  const pick = numbers(20_261_123);
  const kinds = ['cut', 'reset', 'stall', 'garble', 'half-close'] as const;
  const all: Fault[][] = [];
  for (const kind of kinds) {
    for (const at of BOUNDARIES) all.push([{ do: kind, at, from: 'body' }]);
  }
  while (all.length < count) {
    const kind = kinds[all.length % kinds.length]!;
    const at = pick(BODY_BYTES);
    const fault: Fault = { do: kind, at, from: 'body', ...(kind === 'garble' ? { byte: pick(256) } : {}) } as Fault;
    // Half of them in pieces that respect nothing.
    all.push(pick(2) === 0 ? [fault] : [fault, { slice: 1 + pick(60), pauseMs: 0 }]);
  }
  return all;
}

describe('a stream that breaks between the vendor and the broker', function () {
  this.timeout(600_000);
  let world: World;
  before(async () => {
    world = await openWorld({
      withFaults: true,
      vendor: sayEvents,
      timeouts: 'headers_seconds: 5, first_byte_seconds: 0.4, idle_seconds: 0.4',
    });
  });
  after(() => world.close());

  // What the client made of one stream, by what a person would see of it.
  async function outcome(): Promise<'whole' | 'told' | 'altered' | 'silently truncated'> {
    const client = new OpenAI({
      apiKey: 'x',
      baseURL: `${world.base}/v1`,
      fetch: signingFetch('desktop'),
      maxRetries: 0,
      logLevel: 'off',
    });
    let text = '';
    let events = 0;
    try {
      const messages = [{ role: 'user' as const, content: 'hi' }];
      const stream = await client.chat.completions.create({ model: 'gpt-4o', messages, stream: true });
      for await (const { choices } of stream) {
        events++;
        text += choices[0]?.delta?.content ?? '';
      }
    } catch (error) {
      // A TypeError is the client's own, on reading a chunk that lost its choices; all others are about the stream.
      assert.ok(error instanceof APIError || error instanceof SyntaxError || error instanceof TypeError, String(error));
      return 'told';
    }
    if (text === TEXT) return 'whole';
    // A letter that became another is nothing that is missing, and nothing anybody but the vendor could know.
    return events === EVENTS.length - 1 ? 'altered' : 'silently truncated';
  }

  it(`is never taken for a whole one by the OpenAI client: ${CASES} faults`, async () => {
    const planned = faults(CASES);
    world.faults.plan((connection) => planned[connection]);
    const told: Record<string, number> = {};
    const started = world.faults.carried.length;
    const used = () => world.faults.carried.length - started;
    const run = async () => {
      // A broken connection may be tried once more by the broker; the second meets the next fault.
      while (used() < planned.length) {
        const what = await outcome();
        told[what] = (told[what] ?? 0) + 1;
        assert.notEqual(what, 'silently truncated', `near fault ${used()}: ${JSON.stringify(planned[used() - 1])}`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, run));
    console.log(`      ${used()} faults, as the client saw them: ${JSON.stringify(told)}; silently truncated: 0`);
    assert.ok(told['told']! > CASES / 2 && told['whole']! > 0, 'some broke too early, some too late to matter');
  });
});

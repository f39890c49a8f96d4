import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { Agent, type Dispatcher } from 'undici';
import { ApiError } from '@sallyport/protocol/errors.ts';
import type { Provider } from '../providers/provider.ts';
import { relay, type Relayed, type RelaySettings } from './attempt.ts';
import { LiveCalls } from './live-calls.ts';
import { HungUp, Pump, type PumpEnd } from './pump.ts';
import { Reply } from './reply.ts';

/** What a caller has read: all that came, and whether the answer had a proper end. */
export type Answer = {
  status: number;
  headers: IncomingMessage['headers'];
  bytes: Buffer;
  text: string;
  isWhole: boolean;
};

type Settings = {
  /** Who is asked, each with a server of its own; or with a place where nobody is. */
  vendors: readonly (RequestListener | 'nobody')[];
  isStream?: boolean;
  timeouts?: Partial<Provider['timeouts']>;
  relay?: Partial<RelaySettings>;
  keepBytes?: number;
  dispatcher?: Dispatcher;
};

type Pumped = { isStream?: boolean; keepBytes?: number; dispatcher?: Dispatcher };

export const SSE = { 'content-type': 'text/event-stream' } as const;
export const JSON_TYPE = { 'content-type': 'application/json' } as const;
export const DONE = 'data: [DONE]\n\n';
export const event = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;

// A port that was let go could be the next one that somebody gets.
const NOWHERE = 'http://127.0.0.1:1';
const PATIENT = { headersMs: 5000, firstByteMs: 5000, idleMs: 5000, totalMs: 5000 };

/** What the tests of the relay stand on: real callers, real vendors, and everything closed when a test is over. */
export function openHops() {
  const servers: Server[] = [];
  const dispatchers: Dispatcher[] = [];

  async function listen(handle: RequestListener): Promise<string> {
    const server = createServer(handle);
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  function own<Way extends Dispatcher>(dispatcher: Way): Way {
    dispatchers.push(dispatcher);
    return dispatcher;
  }

  return {
    listen,
    own,

    /** A caller's socket, the pump by itself, and a vendor behind it. */
    async between(vendor: RequestListener, { isStream = true, keepBytes = 0, dispatcher }: Pumped = {}) {
      const way = own(dispatcher ?? new Agent());
      const upstream = await listen(vendor);
      const passed: { response: ServerResponse; reply: Reply; pump: Pump; phases: string[]; done: Promise<PumpEnd> }[] =
        [];
      const origin = await listen((_, response) => {
        const reply = new Reply({
          response,
          answerHeaders: ['x-request-id', 'req_1'],
          writeStreamError: ({ code }) => `event: error\ndata: ${code}\n\n`,
          elapsedMs: () => performance.now(),
          onFull: () => pump.pause(),
          onDrained: () => pump.resume(),
          onClosed: () => pump.abort(new HungUp()),
        });
        const phases: string[] = [];
        const onPhase = () => void phases.push(pump.phase);
        const pump = new Pump({ reply, isStream, elapsedMs: () => performance.now(), keepBytes, onPhase });
        const done = pump.done.then((end) => {
          if (end.end !== 'failed') return end;
          if (reply.hasBegun) reply.breakOff(new ApiError('upstream_cut'));
          else response.writeHead(502).end();
          return end;
        });
        passed.push({ response, reply, pump, phases, done });
        way.dispatch({ origin: upstream, path: '/', method: 'POST', body: Buffer.from('{}') }, pump);
      });
      return { call: () => reach(origin), outcome: async () => read(await answerTo(reach(origin))), passed };
    },

    /** A caller's socket, the relay between, and vendors behind it. */
    async hop({ vendors, isStream = false, timeouts, relay: more, keepBytes = 0, dispatcher }: Settings) {
      const asked: IncomingMessage[][] = vendors.map(() => []);
      const origins = await Promise.all(
        vendors.map((vendor, i) =>
          vendor === 'nobody'
            ? NOWHERE
            : listen((request, response) => {
                asked[i]!.push(request);
                vendor(request, response);
              }),
        ),
      );
      const providers = origins.map((origin, i): Provider => ({
        name: `vendor-${i + 1}`,
        models: undefined,
        dispatcher: dispatcher ?? own(new Agent()),
        origin,
        paths: { chat: '/v1/chat/completions', embeddings: '/v1/embeddings' },
        credential: () => ['authorization', `Bearer sk-vendor-${i + 1}`],
        maxTokensField: 'max_tokens',
        timeouts: { ...PATIENT, ...timeouts },
      }));
      const settings: RelaySettings = {
        elapsedMs: () => performance.now(),
        pingMs: 5000,
        slowReaderMs: 5000,
        hideUpstreamErrors: false,
        live: new LiveCalls(),
        ...more,
      };
      const calls: { response: ServerResponse; end: Promise<Relayed | ApiError> }[] = [];
      const origin = await listen((request, response) => {
        const end = relay(
          {
            caller: { keyid: 'desktop' },
            providers,
            operation: request.url === '/embeddings' ? 'embeddings' : 'chat',
            bodyFor: ({ name }) => Buffer.from(`{"model":"m","messages":[],"for":"${name}"}`),
            isStream,
            response,
            answerHeaders: ['x-request-id', 'req_1'],
            requestId: 'req_1',
            idempotencyKey: 'key_1',
            keepBytes,
            arrivedMs: settings.elapsedMs() - 1.26,
          },
          settings,
        ).catch((error: unknown) => {
          if (!(error instanceof ApiError)) throw error;
          // The relay leaves to others what an answer is that never began.
          response.writeHead(error.status, { code: error.code, ...error.headers }).end(error.message);
          return error;
        });
        calls.push({ response, end });
      });
      const ask = () => reach(origin);
      const call = async (path = '/') => read(await answerTo(reach(origin + path)));
      return {
        /** Sends a request; the answer is read by nobody until somebody does. */
        ask,
        /** Sends a request, and reads all of the answer. */
        call,
        /** The same, and how the relay says that it went. */
        async outcome() {
          const answer = await call();
          return { answer, end: await calls.at(-1)!.end };
        },
        /** The requests that came here so far, and those that each vendor got. */
        calls,
        asked,
        live: settings.live,
      };
    },

    async close() {
      for (const server of servers.splice(0)) {
        server.closeAllConnections();
        server.close();
      }
      await Promise.all(dispatchers.splice(0).map((dispatcher) => dispatcher.destroy()));
    },
  };
}

/** Sends a request on a connection of its own, with headers that no vendor should see. */
export function reach(url: string): ClientRequest {
  const headers = { cookie: 'session=1', 'x-forwarded-for': '192.0.2.1', authorization: 'Bearer caller' };
  return httpRequest(url, { agent: false, headers })
    .on('error', () => {})
    .end();
}

/** Waits for the beginning of an answer. */
export async function answerTo(request: ClientRequest): Promise<IncomingMessage> {
  const [answer] = (await once(request, 'response')) as [IncomingMessage];
  return answer.on('error', () => {});
}

/** Reads an answer to its end, proper or not. */
export async function read(answer: IncomingMessage): Promise<Answer> {
  const pieces: Buffer[] = [];
  answer.on('data', (piece: Buffer) => pieces.push(piece));
  // A broken answer tells of it twice; the end is what counts here.
  await new Promise((resolve) => void answer.once('close', resolve));
  const bytes = Buffer.concat(pieces);
  const { statusCode, headers, complete: isWhole } = answer;
  return { status: statusCode!, headers, bytes, text: bytes.toString(), isWhole };
}

/** A vendor that says these pieces one after the other, and then ends; `pauseMs` lies between them, and before the end. */
export function saying(
  pieces: readonly (string | Buffer)[],
  { headers = SSE as object, pauseMs = 0, status = 200 } = {},
) {
  return async (_: IncomingMessage, response: ServerResponse) => {
    response.writeHead(status, { ...headers });
    response.flushHeaders();
    for (const piece of pieces) {
      response.write(piece);
      if (pauseMs > 0) await new Promise((resolve) => void setTimeout(resolve, pauseMs));
    }
    response.end();
  };
}

import { Router } from '@koa/router';
import Koa from 'koa';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { chatWish } from './api/chat.ts';
import { embeddingsWish } from './api/embeddings.ts';
import { forward } from './api/forward.ts';
import { listModels } from './api/models.ts';
import { authenticate } from './auth/authenticate.ts';
import type { FindKey } from './auth/client-keys.ts';
import type { ReplayStore } from './auth/replay.ts';
import { signatureVerifier } from './auth/signature.ts';
import { inOrder, walk, type Arrival, type Call, type Finished, type InOrder, type Stage } from './call.ts';
import type { Config } from './config/config.ts';
import { challenge, enrol } from './control/enrolment.ts';
import type { Records } from './control/records.ts';
import { rotate } from './control/rotation.ts';
import { whoAmI } from './control/who-am-i.ts';
import { logAccess } from './edge/access-log.ts';
import { checkDigest, readBody, readJson } from './edge/body.ts';
import { findAddress } from './edge/client-address.ts';
import { answerError } from './edge/error-answer.ts';
import { greet, health, liveness, readiness, type ReadinessCheck } from './edge/health.ts';
import { checkHost } from './edge/host.ts';
import { nameRequest } from './edge/request-id.ts';
import { readTarget } from './edge/target.ts';
import { limitAddress } from './limits/address.ts';
import type { MemoryCounters } from './limits/counters-memory.ts';
import { limitRate } from './limits/rate.ts';
import type { Logger } from './log/logger.ts';
import { authorize } from './policy/authorize.ts';
import { findProduct, findProducts } from './policy/products.ts';
import type { Provider } from './providers/provider.ts';
import type { RelaySettings } from './relay/attempt.ts';
import type { IdempotencyMemory } from './relay/idempotency.ts';

/** Everything the broker is made of; main opens it, tests bring their own. */
export type House = {
  config: Config;
  providers: readonly Provider[];
  findKey: FindKey;
  records: Records;
  replay: ReplayStore;
  counters: MemoryCounters;
  relay: Omit<RelaySettings, 'elapsedMs'>;
  idempotency: IdempotencyMemory;
  readinessChecks: readonly ReadinessCheck[];
  isStopping: () => boolean;
  log: Logger;
  /** The wall clock, and one that only goes forward; both in milliseconds. */
  now: () => number;
  elapsedMs: () => number;
};

// Probes call by address and under any name, so the check of the Host header lets these paths pass.
const PROBE_PATHS = new Set(['/', '/health', '/ready', '/liveness']);

/** READ FIRST: the stages that every request walks, and the table of routes. */
export function createApp(house: House): Koa {
  const { config, providers, log, now, elapsedMs } = house;

  // Every request, whatever it asks for.
  const arrival = inOrder([
    nameRequest,
    readTarget,
    checkHost({ authorities: config.authorities, exempt: PROBE_PATHS }),
    findAddress(config.trustedProxyHops),
    limitAddress({ pace: config.limits.address, elapsedMs }),
  ]);

  // Who is calling: proven by the headers alone, before a byte of the body is read.
  const verifiers = { signature: signatureVerifier({ findKey: house.findKey, replay: house.replay, now }) };
  const anyCaller = authenticate(verifiers, 'sallyport-v1');
  // What a daemon asks for itself is signed for that purpose: no request of an app can be passed off as one.
  const daemon = authenticate(verifiers, 'sallyport-device-v1');

  // A few keys and names; and a bucket of its own, for whoever is not known yet.
  const small = [readBody({ bytes: 4096, deadlineMs: 10_000 }), checkDigest, readJson] as const;
  const pace = limitAddress({ pace: config.limits.enrolment, elapsedMs });

  // What came along: whole, the bytes that were signed, and JSON that everyone reads alike.
  const json = [
    readBody({ bytes: config.limits.bodyBytes, deadlineMs: config.limits.bodyMs }),
    checkDigest,
    readJson,
  ] as const;

  const product = findProduct(config.products);
  const products = findProducts(config.products);
  const rate = limitRate(house.counters);
  const way = { providers, relay: { ...house.relay, elapsedMs }, idempotency: house.idempotency };
  const chat = forward('chat', way);
  const embed = forward('embeddings', way);
  const models = listModels(providers);
  const checks = house.readinessChecks;
  const { records } = house;

  const router = new Router({ sensitive: true, strict: true });
  const route = <const Stages extends readonly Stage<never>[]>(
    method: string,
    path: string,
    stages: InOrder<Stages>,
  ) => {
    router.register(path, [method], async (ctx) => {
      const call = ctx.state as Call;
      call.params = ctx.params;
      await walk(stages, call);
    });
  };

  // prettier-ignore
  {
    //     method  path                               who         what      for what   wishing         may they   how much  what happens
    route('GET',  '/',                               [                                                                      greet             ]);
    route('GET',  '/health',                         [                                                                      health(checks)    ]);
    route('GET',  '/ready',                          [                                                                      readiness(checks) ]);
    route('GET',  '/liveness',                       [                                                                      liveness          ]);

    route('POST', '/v1/enroll/challenge',            [ pace,                                                                challenge(records) ]);
    route('POST', '/v1/enroll',                      [ pace, ...small,                                                      enrol(records)    ]);
    route('GET',  '/v1/whoami',                      [ daemon,                                                              whoAmI(records)   ]);
    route('POST', '/v1/keys/rotate',                 [ daemon, ...small,                                                    rotate(records)   ]);

    // `completions` cannot be a product: the first line is what every OpenAI client calls.
    route('POST', '/v1/chat/completions',            [ anyCaller, ...json, product,   chatWish,       authorize, rate,      chat              ]);
    route('POST', '/v1/chat/:product',               [ anyCaller, ...json, product,   chatWish,       authorize, rate,      chat              ]);
    route('POST', '/p/:product/v1/chat/completions', [ anyCaller, ...json, product,   chatWish,       authorize, rate,      chat              ]);
    route('POST', '/v1/embeddings',                  [ anyCaller, ...json, product,   embeddingsWish, authorize, rate,      embed             ]);
    route('POST', '/p/:product/v1/embeddings',       [ anyCaller, ...json, product,   embeddingsWish, authorize, rate,      embed             ]);
    route('GET',  '/v1/models',                      [ anyCaller,          products,                                        models            ]);
    route('GET',  '/p/:product/v1/models',           [ anyCaller,          products,                                        models            ]);
  }

  const app = new Koa();
  app.use(async (ctx, next) => {
    // Stages answer on the raw response: Koa's own way costs twice as much, and dies when a caller hangs up.
    ctx.respond = false;
    const call: Arrival = {
      request: ctx.req,
      response: ctx.res,
      arrivedMs: elapsedMs(),
      // A connection that is kept would bring its next request to a broker that is gone.
      answerHeaders: house.isStopping() ? ['connection', 'close'] : [],
      params: {},
    };
    ctx.state = call;
    let error: ApiError | undefined;
    try {
      await walk(arrival, call);
      await next();
    } catch (thrown) {
      error = answerError(call, thrown, log);
    }
    logAccess(log, call as Finished, elapsedMs(), error);
  });
  // Koa tells here of callers whose connection broke, and on the console where nobody listens. Whoever resets connections
  // could flood it; the access log has their line already.
  app.on('error', (cause: NodeJS.ErrnoException) => {
    log[cause.syscall === undefined ? 'error' : 'debug']({ cause }, 'outside of the stages');
  });
  app.use(router.routes());
  app.use((ctx) => refuseUnrouted(ctx.state as Call, router));
  return app;
}

function refuseUnrouted({ method, path }: Call, router: Router): never {
  const allowed = router.match(path, method).path.flatMap((layer) => layer.methods);
  if (allowed.length === 0) throw new ApiError('route_unknown', { facts: { method, path } });
  const list = [...new Set(allowed)].join(', ');
  throw new ApiError('method_unsupported', { facts: { method, path, allowed: list }, headers: { allow: list } });
}

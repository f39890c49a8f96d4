import type { ApiError } from '@sallyport/protocol/errors.ts';
import type { Logger } from '../log/logger.ts';

type Finished = {
  response: { statusCode: number; headersSent: boolean };
  arrivedMs: number;
  method?: string;
  path?: string;
  requestId?: string;
  address?: string;
  caller?: { kind: string; name: string };
  product?: { name: string };
  decision?: { rule: string };
  relayed?: Relayed;
};

type Relayed = {
  provider: string;
  upstreamStatus: number;
  bytes: number;
  end: string;
  usage?: { inputTokens?: number; outputTokens: number; isEstimated: boolean } | undefined;
  repeatedAfter?: string | undefined;
  error?: ApiError | undefined;
};

/** One line for each request: who, what, which rule decided, how it ended. Never a body, never a header's value. */
export function logAccess(log: Logger, finished: Finished, endedMs: number, error: ApiError | undefined): void {
  const { response, relayed } = finished;
  log.info({
    requestId: finished.requestId,
    method: finished.method,
    path: finished.path,
    status: relayed?.end === 'hung up' && !response.headersSent ? 499 : response.statusCode,
    ms: Math.round((endedMs - finished.arrivedMs) * 10) / 10,
    address: finished.address,
    caller: finished.caller?.name,
    product: finished.product?.name,
    rule: error?.rule ?? finished.decision?.rule,
    provider: relayed?.provider,
    upstreamStatus: relayed?.upstreamStatus,
    bytes: relayed?.bytes,
    end: relayed?.end,
    inputTokens: relayed?.usage?.inputTokens,
    outputTokens: relayed?.usage?.outputTokens,
    isEstimated: relayed?.usage?.isEstimated,
    repeatedAfter: relayed?.repeatedAfter,
    code: error?.code ?? relayed?.error?.code,
    why: relayed?.error && String(relayed.error.cause ?? ''),
  });
}

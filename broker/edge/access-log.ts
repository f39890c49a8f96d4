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
  provider?: string;
  relayed?: { upstreamStatus: number; bytes: number; end: string };
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
    provider: finished.provider,
    upstreamStatus: relayed?.upstreamStatus,
    bytes: relayed?.bytes,
    end: relayed?.end,
    code: error?.code,
  });
}

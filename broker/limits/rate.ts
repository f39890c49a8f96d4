import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import type { MemoryCounters, Rate, RateVerdict } from './counters-memory.ts';

/** Left once the request has been counted; without it nothing is forwarded. */
export type WithRate = { rate: RateVerdict };

type Asked = {
  product: { name: string; rate: Rate };
  caller: { kind: string; name: string };
  answerHeaders: string[];
};

/** Takes one request out of what the product allows this caller, and tells the caller what is left. */
export function limitRate(counters: MemoryCounters) {
  return ({ product, caller, answerHeaders }: Asked): WithRate => {
    const verdict = counters.take(`${product.name} ${caller.kind} ${caller.name}`, product.rate);
    answerHeaders.push(
      HEADER.limitRequests,
      String(verdict.limit),
      HEADER.remainingRequests,
      String(verdict.remaining),
      HEADER.resetRequests,
      duration(verdict.resetMs),
    );
    if (verdict.refusedBy === undefined) return { rate: verdict };
    const seconds = Math.ceil(verdict.retryAfterMs / 1000);
    const headers = {
      [HEADER.retryAfter]: String(seconds),
      [HEADER.retryAfterMs]: String(Math.ceil(verdict.retryAfterMs)),
    };
    if (verdict.refusedBy === 'quota') {
      throw new ApiError('quota_exhausted', {
        facts: { product: product.name, quota: verdict.limit, seconds },
        rule: `products.${product.name}.rate.per_day`,
        // Client libraries repeat a 429 by themselves; before midnight that only adds noise.
        headers: { ...headers, [HEADER.shouldRetry]: 'false' },
      });
    }
    const pace = `${product.rate.burst} requests at once and ${product.rate.perSecond} a second`;
    throw new ApiError('rate_limited', {
      facts: { product: product.name, rate: pace, seconds },
      rule: `products.${product.name}.rate`,
      headers,
    });
  };
}

// As OpenAI writes them and its libraries read them: 120ms, 6.5s, 2m3s, 5h0m12s.
function duration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 100) / 10;
  if (seconds < 60) return `${seconds}s`;
  const whole = Math.ceil(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return `${hours > 0 ? `${hours}h` : ''}${minutes}m${rest}s`;
}

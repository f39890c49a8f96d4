import { IdentityError } from './identity-error.ts';
import type { Incoming } from './uplink.ts';
import { uplinkErrorOf } from './uplink-error.ts';

const MOST_BYTES = 65_536;

/** The fields of a broker's answer; whatever is not a success is thrown, in one sentence. */
export async function readAnswer(incoming: Incoming, host: string): Promise<Record<string, unknown>> {
  const value = asObject(await readText(incoming, host));
  if (incoming.status === 200 && value !== undefined) return value;
  const error = value?.['error'];
  if (isRecord(error) && typeof error['code'] === 'string' && typeof error['message'] === 'string') {
    if (incoming.status >= 500) throw new IdentityError('broker_busy', { host, status: error['code'] });
    throw new IdentityError('broker_refused', { message: error['message'], code: error['code'] });
  }
  if (incoming.status >= 500) throw new IdentityError('broker_busy', { host, status: String(incoming.status) });
  throw new IdentityError('not_a_broker', { host, why: `status ${incoming.status}, ${kindOf(incoming)}` });
}

/** A text that must be there. */
export function textIn(answer: Record<string, unknown>, name: string, host: string): string {
  const value = answer[name];
  if (typeof value !== 'string' || value === '') {
    throw new IdentityError('not_a_broker', { host, why: `its answer has no ${name}` });
  }
  return value;
}

async function readText({ body }: Incoming, host: string): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MOST_BYTES) break;
      chunks.push(chunk);
    }
  } catch (error) {
    throw uplinkErrorOf(error, { host, sent: true });
  }
  if (length > MOST_BYTES) throw new IdentityError('not_a_broker', { host, why: 'its answer does not end' });
  return Buffer.concat(chunks).toString();
}

function asObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function kindOf({ body }: Incoming): string {
  return body.headers['content-type']?.split(';')[0] ?? 'without a content type';
}

import type { ServerResponse } from 'node:http';
import type { WhoAmIAnswer } from '@sallyport/protocol/enrolment.ts';
import { answerJson } from '../edge/answer.ts';
import { findKeys } from '../store/devices.ts';
import { iso, type Records } from './records.ts';

type Exchange = {
  response: ServerResponse;
  answerHeaders: readonly string[];
  caller: { kind: 'client' | 'device'; name: string; keyid: string; products: readonly string[] };
};

/** Tells a caller who it is: what a daemon asks before it believes that its new key works. */
export function whoAmI({ database }: Pick<Records, 'database'>) {
  return async (exchange: Exchange): Promise<void> => {
    const { kind, name, keyid, products } = exchange.caller;
    const answer: WhoAmIAnswer = { kind, name, products: [...products] };
    const [found] = kind === 'device' ? await findKeys(database.read, [keyid]) : [];
    if (found === undefined) return answerJson(exchange, 200, answer);
    const { key, device } = found;
    answerJson(exchange, 200, {
      ...answer,
      name: device.name,
      device_id: device.id,
      key: {
        keyid,
        algorithm: key.algorithm,
        created_at: iso(key.created_at),
        ...(key.not_after !== null && { expires_at: iso(key.not_after) }),
      },
      rotate: device.rotate_asked_at !== null && device.rotate_asked_at > key.created_at,
    } satisfies WhoAmIAnswer);
  };
}

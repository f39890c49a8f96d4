import { ApiError } from '@sallyport/protocol/errors.ts';
import type { Tag } from '@sallyport/protocol/profile.ts';
import type { WithCaller } from './caller.ts';
import type { KeyRow } from './client-keys.ts';

type Asked = {
  method: string;
  path: string;
  query: string;
  fields: ReadonlyMap<string, string>;
  hasContent: boolean;
  authority: string | undefined;
  answerHeaders: string[];
  requestId: string;
};

type Verifiers = {
  signature: (view: Asked & { authority: string }, tag: Tag) => Promise<KeyRow>;
};

/**
 * Finds out who is calling, by the form of the credential. The strongest one decides: a wrong signature is refused and
 * never falls through to something weaker that happens to stand beside it.
 */
export function authenticate({ signature }: Verifiers, tag: Tag) {
  return async (call: Asked): Promise<WithCaller> => {
    const isSigned = call.fields.has('signature') || call.fields.has('signature-input');
    if (!isSigned) throw new ApiError('signature_required');
    if (call.authority === undefined) throw new ApiError('host_unproven');
    const row = await signature({ ...call, authority: call.authority }, tag);
    await row.heard?.(call);
    return { caller: row.caller };
  };
}

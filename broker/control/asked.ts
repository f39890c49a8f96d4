import { z } from 'zod';
import { ApiError } from '@sallyport/protocol/errors.ts';

const KEY_BYTES = 32;

/** Exactly so many bytes in base64url, in the one spelling that there is. */
export function bytes(length: number) {
  return z.string().transform((text, context) => {
    const value = Buffer.from(text, 'base64url');
    if (value.length === length && value.toString('base64url') === text) return value;
    context.addIssue(`must be ${length} bytes as base64url without padding`);
    return z.NEVER;
  });
}

/** A public key, whichever the algorithm: both kinds are as long. */
export const PublicKeyBytes = bytes(KEY_BYTES);
export const MacBytes = bytes(32);
export const ProofBytes = bytes(64);
export const AlgorithmName = z.enum(['hmac-sha256', 'ed25519']);

/** A line that a person may read, in lists and logs: no control characters, and not long. */
export const Line = z
  .string()
  .min(1)
  .max(100)
  .regex(/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+$/u, 'must be one line of visible characters');

/** Reads the body of a request to the control plane; what does not fit is told with the name of the field. */
export function readAsked<Schema extends z.ZodType>(schema: Schema, body: Buffer): z.infer<Schema> {
  const { success, data, error } = schema.safeParse(JSON.parse(body.toString()));
  if (success) return data;
  const { path, message } = error.issues[0]!;
  const field = path.join('.') || 'The body';
  throw new ApiError('field_invalid', {
    param: path.join('.'),
    facts: { field, why: message.replace(/^\p{Lu}/u, (letter) => letter.toLowerCase()) },
  });
}

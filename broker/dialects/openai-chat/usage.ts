/** The tokens that an answer took: as the provider says, or, marked as such, counted by us. */
export type Usage = { inputTokens?: number; outputTokens: number; isEstimated: boolean };

/** How much of the end of an answer is enough to find its usage in. */
export const USAGE_TAIL_BYTES = 4096;

// Inside the text of an answer the quotes would stand behind a backslash, so only the member itself looks like this.
const USAGE = /"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})/g;

/** Reads the usage from the end of an answer, or from the last chunk of a stream, without parsing what stands before it. */
export function usageIn(tail: Buffer): Usage | undefined {
  if (!tail.includes('"usage"')) return undefined;
  const found = [...tail.toString('latin1').matchAll(USAGE)].at(-1)?.[1];
  if (found === undefined) return undefined;
  try {
    const { prompt_tokens: inputTokens, completion_tokens: outputTokens = 0 } = JSON.parse(found) as Record<
      string,
      unknown
    >;
    if (!isCount(inputTokens) || !isCount(outputTokens)) return undefined;
    return { inputTokens, outputTokens, isEstimated: false };
  } catch {
    // Cut in two by where the tail begins, or not JSON: the same as not being there.
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

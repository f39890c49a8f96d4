import type { Log } from './daemon.ts';

/** A log of one JSON object a line. What is written is facts and sentences of ours: never a body, never a key. */
export function openLog(write: (line: string) => void, now: () => number): Log {
  const at = (level: string) => (facts: object, says: string) => {
    const time = new Date(now()).toISOString();
    write(`${JSON.stringify({ level, time, message: says, ...facts }, told)}\n`);
  };
  return { info: at('info'), warn: at('warn'), error: at('error') };
}

// An Error has nothing that JSON would show.
function told(_: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  const { message, stack, cause } = value;
  return { message, stack, ...(cause !== undefined && { cause }) };
}

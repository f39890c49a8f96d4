import { pino, type DestinationStream, type Logger } from 'pino';

export type { Logger };

type Settings = { level: string; destination?: DestinationStream };

// Cloud Logging reads `severity`; everything else reads it just as well.
const SEVERITY: Record<string, string> = {
  trace: 'DEBUG',
  debug: 'DEBUG',
  info: 'INFO',
  warn: 'WARNING',
  error: 'ERROR',
  fatal: 'CRITICAL',
};

const FLUSH_EVERY_MS = 250;

/** The log: one JSON object a line, written in batches so that a request does not wait for the disk. */
export function openLog({ level, destination }: Settings): { log: Logger; closeLog: () => void } {
  const batched = destination ?? pino.destination({ sync: false, minLength: 4096 });
  const log = pino(
    {
      level,
      base: null,
      messageKey: 'message',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ severity: SEVERITY[label] ?? 'DEFAULT' }) },
    },
    batched,
  );
  const timer = setInterval(() => log.flush(), FLUSH_EVERY_MS).unref();
  const closeLog = () => {
    clearInterval(timer);
    if ('flushSync' in batched && typeof batched.flushSync === 'function') batched.flushSync();
  };
  return { log, closeLog };
}

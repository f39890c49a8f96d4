import { openSync } from 'node:fs';
import { pino, type DestinationStream, type Logger } from 'pino';

export type { Logger };

type Settings = {
  level: string;
  /** Where to write; standard output when it is left out. */
  file?: string;
  destination?: DestinationStream;
};

type Batched = DestinationStream & { flush?: () => void; flushSync?: () => void };

// Cloud Logging reads `severity`; everything else reads it just as well.
const SEVERITY: Record<string, string> = {
  trace: 'DEBUG',
  debug: 'DEBUG',
  info: 'INFO',
  warn: 'WARNING',
  error: 'ERROR',
  fatal: 'CRITICAL',
};

// A batch of lines is written at once. Not more than this: longer strings cost more for each line in them, tried up to 64 KiB.
const BATCH_BYTES = 4096;
const FLUSH_EVERY_MS = 250;

/** The log: one JSON object a line, written in batches so that a request does not wait for the disk. */
export function openLog({ level, file, destination }: Settings): { log: Logger; closeLog: () => void } {
  // Opened here and now: a log that is still being opened cannot be flushed by a start that fails at once.
  const fd = file === undefined ? 1 : openSync(file, 'a', 0o600);
  const batched: Batched = destination ?? pino.destination({ fd, sync: false, minLength: BATCH_BYTES });
  const log = pino(
    {
      level,
      base: null,
      // The reason stays in the log: message, stack and what lies beneath, which pino writes for `err` alone by itself.
      serializers: { cause: pino.stdSerializers.errWithCause },
      messageKey: 'message',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ severity: SEVERITY[label] ?? 'DEFAULT' }) },
    },
    batched,
  );
  // Not log.flush(): that adds listeners each time, which pile up while the disk is slow.
  const timer = setInterval(() => batched.flush?.(), FLUSH_EVERY_MS).unref();
  const closeLog = () => {
    clearInterval(timer);
    batched.flushSync?.();
  };
  return { log, closeLog };
}

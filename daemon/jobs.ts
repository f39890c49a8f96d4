import { createHash } from 'node:crypto';
import { schedule } from 'node-cron';

type Settings = {
  now: () => number;
  /** When the broker made the key that signs; nothing while there is none. */
  keyCreatedAt: () => string | undefined;
  installId: () => string;
  /** Whether the broker has asked for a new key. */
  isAsked: () => boolean;
  rotate: () => Promise<unknown>;
  log: { info(facts: object, says: string): void; warn(facts: object, says: string): void };
};

const DAY_MS = 86_400_000;
const ROTATE_AFTER_DAYS = 30;
const JITTER_DAYS = 5;

/** Whether it is time for a new key: thirty days, and up to five more that differ from device to device. */
export function isDue(createdAt: string, installId: string, nowMs: number): boolean {
  const share = createHash('sha256').update(installId).digest().readUInt16BE() / 65_536;
  return nowMs >= Date.parse(createdAt) + (ROTATE_AFTER_DAYS + share * JITTER_DAYS) * DAY_MS;
}

/** The table of scheduled work. No request depends on it: an old key goes on signing. */
export function startJobs({ now, keyCreatedAt, installId, isAsked, rotate, log }: Settings): {
  stop: () => Promise<void>;
} {
  const rotateWhenDue = async () => {
    const createdAt = keyCreatedAt();
    if (createdAt === undefined || !(isAsked() || isDue(createdAt, installId(), now()))) return;
    try {
      await rotate();
      log.info({}, 'this desktop has a new key');
    } catch (cause) {
      log.warn({ cause }, `The key could not be replaced, and will be tried again: ${(cause as Error).message}`);
    }
  };
  const task = schedule('*/5 * * * *', rotateWhenDue, { name: 'rotate', noOverlap: true });
  return { stop: async () => void (await task.destroy()) };
}

import { z } from 'zod';
import { DataFolderError, type DataFolder } from '../store/data-folder.ts';
import type { Claim } from './replay.ts';
import { MemoryReplayStore, type ReplaySnapshot } from './replay-memory.ts';

type Settings = {
  folder: DataFolder;
  now: () => number;
  /** Told what could not be read or noted; each such case costs the next start a few seconds and nothing else. */
  warn: (what: string, error: unknown) => void;
};

/** The memory of used signatures, carried from one run of the broker to the next. */
export type ReplayHandover = { replay: Pick<MemoryReplayStore, 'claim' | 'fencedForMs'>; handOver: () => void };

/** The file in the data folder in which a clean stop leaves what must not be forgotten. */
export const SNAPSHOT = 'replay.json';

/** What a broker leaves that never accepted anything. */
export const EMPTY_SNAPSHOT: ReplaySnapshot = { fence: -1, droppedUpTo: -1, live: [] };

const LAST_SEEN = 'last-seen';
const LONGEST_WAIT_SECONDS = 600;

const Snapshot = z.strictObject({
  fence: z.int(),
  droppedUpTo: z.int(),
  live: z.array(z.tuple([z.string(), z.string(), z.int()])),
});

/**
 * Opens the store with what the last run left. After a clean stop that is every use still alive, and nothing has to wait.
 * After a crash it is only the second in which the last run was seen alive, and the store starts behind its fence.
 */
export function openReplay({ folder, now, warn }: Settings): ReplayHandover {
  const nowSeconds = Math.floor(now() / 1000);
  const snapshot = takeSnapshot(folder, warn);
  const lastSeen = readLastSeen(folder, warn);
  const waitsFor = snapshot?.fence ?? lastSeen;
  if (waitsFor > nowSeconds + LONGEST_WAIT_SECONDS) {
    throw new DataFolderError(
      `This machine's clock says ${iso(nowSeconds)}, but a broker with this data folder was running at ${iso(waitsFor)}. ` +
        `Set the clock; or, if it was the earlier time that was wrong, delete the file ${LAST_SEEN}${snapshot === undefined ? '' : ` and ${SNAPSHOT}`} in the data folder.`,
    );
  }
  const store = new MemoryReplayStore({
    nowSeconds,
    last: snapshot === undefined ? { lastSeen } : { snapshot },
  });
  // The latest second ever, not the last one: a clock that was set back does not undo what was accepted before it was.
  let noted = lastSeen;
  const noteTime = (seconds: number) => {
    if (seconds <= noted) return;
    try {
      folder.note(LAST_SEEN, String(seconds));
      noted = seconds;
    } catch (error) {
      warn('the time could not be noted in the data folder', error);
    }
  };
  const nowInSeconds = () => Math.floor(now() / 1000);
  noteTime(nowInSeconds());
  const timer = setInterval(() => noteTime(nowInSeconds()), 1000).unref();
  const replay: ReplayHandover['replay'] = {
    // Noted before it is accepted: between two ticks of the timer a clock can be set forward, used, and set back.
    claim(claim: Claim) {
      noteTime(claim.nowSeconds);
      return store.claim(claim);
    },
    fencedForMs: (nowMs: number) => store.fencedForMs(nowMs),
  };
  return {
    replay,
    handOver() {
      clearInterval(timer);
      folder.write(SNAPSHOT, JSON.stringify(store.snapshot()));
    },
  };
}

// Taken up once: the same snapshot read again after a crash would hide what was used in between.
function takeSnapshot(folder: DataFolder, warn: Settings['warn']): ReplaySnapshot | undefined {
  const text = folder.read(SNAPSHOT);
  if (text === undefined) return undefined;
  folder.remove(SNAPSHOT);
  try {
    return Snapshot.parse(JSON.parse(text));
  } catch (error) {
    warn('what the last run left of used signatures cannot be read; starting as after a crash', error);
    return undefined;
  }
}

function readLastSeen(folder: DataFolder, warn: Settings['warn']): number {
  const text = folder.read(LAST_SEEN) ?? '0';
  if (/^\d{1,12}$/.test(text)) return Number(text);
  warn('when the last run was seen cannot be read; taken as not known', new Error(JSON.stringify(text.slice(0, 40))));
  return 0;
}

function iso(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}

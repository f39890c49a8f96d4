import { join } from 'node:path';
import { readCode } from '@sallyport/protocol/enrolment.ts';
import { newChain } from './audit/audit-log.ts';
import { CHECKPOINT_FILE, lastCheckpoint } from './audit/checkpoint-file.ts';
import { CheckpointWriter } from './audit/checkpoint-writer.ts';
import { olderThanCheckpoint } from './audit/rollback.ts';
import { openSigningKey } from './audit/signing-key.ts';
import { DeviceKeys } from './auth/device-keys.ts';
import type { Config } from './config/config.ts';
import { confirmKey, noteCloneSign } from './control/devices.ts';
import { openFirstInvite } from './control/invites.ts';
import { openRecords, type Records } from './control/records.ts';
import type { ReadinessCheck } from './edge/health.ts';
import { startJobs } from './jobs.ts';
import type { Logger } from './log/logger.ts';
import { DatabaseError, type Database } from './store/database.ts';
import { migrate, pendingMigrations } from './store/migrations.ts';
import { openUnmigrated } from './store/open-store.ts';
import { storeUnavailable } from './store/unavailable.ts';

type Settings = {
  config: Config;
  log: Logger;
  now: () => number;
  elapsedMs: () => number;
  /** Told every two seconds, each time that it is known anew whose key is still good. */
  onRefresh: () => void;
};

/** What the broker remembers of devices, and all that keeps it true. */
export type Identities = {
  records: Records;
  deviceKeys: DeviceKeys;
  isReady: ReadinessCheck;
  stop: () => Promise<void>;
};

// Two refreshes that failed, and a moment.
const LONGEST_SILENCE_MS = 6_000;
const ASK_AGAIN_MS = 2_000;

/** Opens the database and what stands in it; throws a sentence for the operator where it must not be used. */
export async function openIdentities(settings: Settings): Promise<Identities> {
  const { config, log } = settings;
  const database = await openUnmigrated(config, { say: (line) => log.warn(line) });
  try {
    return await openOver(database, settings);
  } catch (error) {
    await database.close();
    throw error;
  }
}

async function openOver(database: Database, settings: Settings): Promise<Identities> {
  const { config, log, now, elapsedMs, onRefresh } = settings;
  const pending = await prepareSchema(database, settings);
  const records = await openRecords({ config, database, chain: newChain(), now });
  const deviceKeys = new DeviceKeys({
    database,
    // A key of the ring that is missing can be given back; until then nobody is told that the signature is wrong.
    open: (...sealed) =>
      records.envelope.open(...sealed).catch((cause: unknown) => Promise.reject(storeUnavailable(cause))),
    now,
    elapsedMs,
    onFirstUse: (key, requestId) => confirmKey(records, key, requestId),
    onCloneSign: (deviceId, why, requestId) => noteCloneSign(records, deviceId, why, requestId),
    warn: (what, cause) => log.warn({ cause }, what),
  });
  let trouble: string | undefined;
  let checkpoints: CheckpointWriter | undefined;
  let jobs: { stop: () => Promise<void> } | undefined;

  const begin = async () => {
    const file = join(config.data, CHECKPOINT_FILE);
    const older = await olderThanCheckpoint(database.read, lastCheckpoint(file));
    if (older !== undefined) {
      throw new DatabaseError(
        `${older} Devices that were revoked since would be let in again. Put a backup back with sallyport-broker restore, which keeps them out; or, if this is meant, move the file ${file} away.`,
      );
    }
    await deviceKeys.refresh();
    deviceKeys.watch(onRefresh);
    trouble = await records.envelope.check(database);
    if (trouble !== undefined) return log.error(trouble);
    const key = await openSigningKey(database, records.envelope, now);
    checkpoints = new CheckpointWriter({ database, key, file, log, now });
    await openInviteOf(config, records, log);
    jobs = startJobs({ records, checkpoints, log });
  };

  let waiting: NodeJS.Timeout | undefined;
  if (pending === 0) await begin();
  else {
    trouble = 'the database lacks migrations; run sallyport-broker migrate';
    waiting = setInterval(() => {
      const look = async () => {
        if ((await pendingMigrations(database)).length > 0) return;
        clearInterval(waiting);
        trouble = undefined;
        await begin();
      };
      look().catch((cause: unknown) => {
        trouble = (cause as Error).message;
        log.error({ cause }, 'the database cannot be used');
      });
    }, ASK_AGAIN_MS);
  }

  return {
    records,
    deviceKeys,
    isReady() {
      if (trouble !== undefined) return { why: trouble, forMs: 10_000 };
      return deviceKeys.blindMs > LONGEST_SILENCE_MS
        ? { why: 'the database does not answer', forMs: 2_000 }
        : undefined;
    },
    async stop() {
      clearInterval(waiting);
      await jobs?.stop();
      await deviceKeys.stop();
      try {
        await records.audit.announce(database, log);
        await checkpoints?.write();
      } catch (cause) {
        // Everything is in the database; the next start signs for it.
        log.warn({ cause }, 'the audit log could not be signed at the end');
      }
      await database.close();
    },
  };
}

/** How many migrations are still to be done by hand. */
async function prepareSchema(database: Database, { config, log, now }: Settings): Promise<number> {
  if (config.database.migratesAtStart) {
    const done = await migrate(database, now);
    if (done.length > 0) log.info({ migrations: done }, 'the database was brought up to date');
  }
  const pending = await pendingMigrations(database);
  // A file has one user, so there is nobody to wait for.
  if (pending.length > 0 && database.kind === 'sqlite') {
    throw new DatabaseError(
      `The database lacks ${pending.join(', ')}, and database.migrate is false; run sallyport-broker migrate first.`,
    );
  }
  return pending.length;
}

async function openInviteOf({ firstInvite }: Config, records: Records, log: Logger): Promise<void> {
  if (firstInvite === undefined) return;
  const code = readCode(firstInvite.code.reveal());
  if (code === undefined) throw new TypeError('a code that passed the checks');
  const isOpen = await openFirstInvite(records, code, [firstInvite.product]);
  log.info({ invite: code.id, isOpen }, 'the first invitation');
}

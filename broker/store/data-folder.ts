import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync, openSync, fsyncSync, closeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { OperatorError } from '../log/operator-error.ts';

/** The folder `data:` names, held by one broker at a time. */
export type DataFolder = {
  read(name: string): string | undefined;
  /** Replaces the file in one step: after a crash there is the old text or the new one, never half of it. */
  write(name: string, text: string): void;
  /** The same without waiting for the disk: survives the end of the process, not a power cut. */
  note(name: string, text: string): void;
  /** Takes the file away for good: not even a power cut brings it back. */
  remove(name: string): void;
  close(): void;
};

/** Thrown with a sentence for the operator when the folder cannot be used. */
export class DataFolderError extends OperatorError {
  override name = 'DataFolderError';
}

/**
 * Opens the folder, or says who is in the way. Two brokers over one folder would each believe that they alone remember
 * which signatures were used; the lock is a SQLite transaction, which the system releases whatever ends the process.
 */
export function openDataFolder(folder: string): DataFolder {
  const lock = lockFolder(folder);
  const path = (name: string) => join(folder, name);
  return {
    read(name) {
      try {
        return readFileSync(path(name), 'utf8');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
    },
    write: (name, text) => replaceFile(path(name), text, { isDurable: true }),
    note: (name, text) => replaceFile(path(name), text, { isDurable: false }),
    remove(name) {
      rmSync(path(name), { force: true });
      syncFolder(folder);
    },
    close: () => lock.close(),
  };
}

function replaceFile(path: string, text: string, { isDurable }: { isDurable: boolean }): void {
  const draft = openSync(`${path}.new`, 'w', 0o600);
  try {
    writeFileSync(draft, text);
    if (isDurable) fsyncSync(draft);
  } finally {
    closeSync(draft);
  }
  renameSync(`${path}.new`, path);
  if (isDurable) syncFolder(dirname(path));
}

/** Waits until the disk has the names in a folder; they are written apart from what the files hold. */
export function syncFolder(folder: string): void {
  // Windows opens no folders, and writes such changes through by itself.
  if (process.platform === 'win32') return;
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function lockFolder(folder: string): DatabaseSync {
  let lock: DatabaseSync | undefined;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    lock = new DatabaseSync(join(folder, 'broker.lock'));
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
    return lock;
  } catch (cause) {
    lock?.close();
    const isHeld = (cause as { errcode?: number }).errcode === 5; // SQLITE_BUSY
    throw new DataFolderError(
      isHeld
        ? `Another broker is using the data folder ${folder}; stop it, or give this one a folder of its own (data: or SALLYPORT_DATA).`
        : `The data folder ${folder} cannot be used: ${(cause as Error).message}; make it writable, or name another (data: or SALLYPORT_DATA).`,
      { cause },
    );
  }
}

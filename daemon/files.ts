import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  type Stats,
} from 'node:fs';
import { dirname } from 'node:path';
import { TellableError } from './tellable-error.ts';

// Files that are nobody else's business. On Windows the profile's folder keeps others out, and there are no modes to look
// at; everywhere else a file is used only when its owner, its kind and its mode say that we alone wrote it.

const LARGEST_BYTES = 1_048_576;

/** Thrown with a sentence for the person at the desk: which file is wrong, and what to do. */
export class PrivateFileError extends TellableError {
  override name = 'PrivateFileError';
}

/** What a private file says; undefined when there is no such file. */
export function readPrivateFile(path: string): string | undefined {
  let handle: number;
  try {
    // A link could point at somebody else's file, and a pipe would keep us waiting for ever.
    handle = openSync(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    switch ((cause as NodeJS.ErrnoException).code) {
      case 'ENOENT':
        return undefined;
      case 'ELOOP':
        throw new PrivateFileError(`${path} is a symbolic link; put the file itself there.`, { cause });
      default:
        throw new PrivateFileError(`${path} cannot be read: ${(cause as Error).message}`, { cause });
    }
  }
  try {
    // Asked of what was opened, not of the name: between two looks at a name there may be another file behind it.
    const stats = fstatSync(handle);
    if (!stats.isFile()) throw new PrivateFileError(`${path} is not a plain file; move it away.`);
    refuseForeign(path, stats);
    refuseOpen(path, stats, 0o077, 600);
    if (stats.size > LARGEST_BYTES) {
      throw new PrivateFileError(`${path} is larger than any file that we write; move it away.`);
    }
    return readFileSync(handle, 'utf8');
  } finally {
    closeSync(handle);
  }
}

/** Replaces the file in one step, and waits for the disk: after a crash there is the old text or the new one. */
export function writePrivateFile(path: string, text: string): void {
  viaDraft(path, text, (draft) => renameSync(draft, path));
}

/** Writes the file only where there is none; whether it did. Of two processes that try at once, one is told false. */
export function createPrivateFile(path: string, text: string): boolean {
  let isNew = true;
  viaDraft(path, text, (draft) => {
    try {
      linkSync(draft, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      isNew = false;
    }
    rmSync(draft);
  });
  return isNew;
}

/** Takes the file away for good: not even a power cut brings it back. */
export function removePrivateFile(path: string): void {
  try {
    rmSync(path, { force: true });
    syncFolder(dirname(path));
  } catch (cause) {
    throw new PrivateFileError(`${path} cannot be removed: ${(cause as Error).message}`, { cause });
  }
}

/** Makes the folder, and those above it, for this user alone; refuses one that others can look into. */
export function makePrivateFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new PrivateFileError(`The folder ${path} cannot be made: ${(cause as Error).message}`, { cause });
  }
  refuseOpen(path, folderOfOurs(path), 0o077, 700);
}

function viaDraft(path: string, text: string, publish: (draft: string) => void): void {
  // Who may write into the folder may also exchange what we put there.
  refuseOpen(dirname(path), folderOfOurs(dirname(path)), 0o022, 700);
  // The process in the name keeps two of them out of each other's draft.
  const draft = `${path}.${process.pid}.new`;
  try {
    rmSync(draft, { force: true });
    const handle = openSync(draft, 'wx', 0o600);
    try {
      writeFileSync(handle, text);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    publish(draft);
    syncFolder(dirname(path));
  } catch (cause) {
    rmSync(draft, { force: true });
    throw new PrivateFileError(`${path} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

// What a folder lists is written to the disk apart from what its files hold.
function syncFolder(folder: string): void {
  // Windows opens no folders, and writes such changes through by itself.
  if (process.platform === 'win32') return;
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function folderOfOurs(path: string): Stats {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) throw new PrivateFileError(`There is no folder ${path}.`);
  if (stats.isSymbolicLink()) throw new PrivateFileError(`${path} is a symbolic link; name the folder itself.`);
  if (!stats.isDirectory()) throw new PrivateFileError(`${path} is not a folder; move it away.`);
  refuseForeign(path, stats);
  return stats;
}

function refuseForeign(path: string, { uid }: Stats): void {
  const own = process.geteuid?.();
  if (own !== undefined && uid !== own) {
    throw new PrivateFileError(`${path} belongs to another user (${uid}, and this is ${own}); move it away.`);
  }
}

function refuseOpen(path: string, { mode }: Stats, forbidden: number, wanted: number): void {
  if (process.platform !== 'win32' && (mode & forbidden) !== 0) {
    const found = (mode & 0o777).toString(8);
    throw new PrivateFileError(
      `${path} is open to other users (mode ${found}); if nobody has touched it: chmod ${wanted} ${path}`,
    );
  }
}

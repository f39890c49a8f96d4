import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { Secret } from '@sallyport/protocol/secret.ts';
import { createPrivateFile, readPrivateFile } from '../files.ts';
import { KeychainError, sayingWhy } from './keychain-error.ts';

// Where the passphrase of the encrypted file comes from. Never from a variable: those are read by every child process.

/** In the order in which they are taken. */
export const SOURCES = ['credential', 'passphrase', 'key-file'] as const;

/** Where a passphrase comes from; a file remembers its own, for another one could not open it. */
export type Source = (typeof SOURCES)[number];

/** What main knows of passphrases. */
export type PassphraseSettings = {
  /** The folder that systemd fills for this service, with `master.key` in it. */
  credentialsDirectory?: string | undefined;
  /** Asks the person, or reads the descriptor that they named; for a new file twice. */
  passphrase?: ((isNew: boolean) => Promise<Secret>) | undefined;
  /** Whether a key may be written beside what it protects. */
  insecureKeyFile?: boolean | undefined;
};

const CREDENTIAL = 'master.key';
const KEY_FILE = 'insecure.key';
const LEAST_CHARACTERS = 12;
const LARGEST_BYTES = 65_536;

/** The source that a new file begins with; undefined when there is none. */
export function firstSource({
  credentialsDirectory,
  passphrase,
  insecureKeyFile,
}: PassphraseSettings): Source | undefined {
  if (credentialsDirectory !== undefined && readCredential(credentialsDirectory) !== undefined) return 'credential';
  if (passphrase !== undefined) return 'passphrase';
  return insecureKeyFile === true ? 'key-file' : undefined;
}

/** The passphrase from this source; a key file is made when the file it is for is new. */
export async function passphraseFrom(
  source: Source,
  { folder, isNew, ...settings }: PassphraseSettings & { folder: string; isNew: boolean },
): Promise<Secret> {
  const { credentialsDirectory, passphrase } = settings;
  switch (source) {
    case 'credential': {
      const found = credentialsDirectory === undefined ? undefined : readCredential(credentialsDirectory);
      if (found !== undefined) return longEnough(found, 'The credential master.key');
      throw new KeychainError(
        'locked',
        'The encrypted file was made with the credential master.key, which is not given; start the daemon through systemd with LoadCredential=master.key:….',
      );
    }
    case 'passphrase':
      if (passphrase !== undefined) return longEnough(await passphrase(isNew), 'The passphrase');
      throw new KeychainError(
        'locked',
        'The encrypted file was made with a passphrase, which nobody gives; start the daemon in a terminal, or name a descriptor to read it from.',
      );
    case 'key-file':
      return keyFile(join(folder, KEY_FILE), isNew);
  }
}

function keyFile(path: string, isNew: boolean): Secret {
  // Two processes may begin at once: the key is the one that reached the disk first.
  if (isNew) sayingWhy(() => createPrivateFile(path, randomBytes(32).toString('base64url')));
  const found = sayingWhy(() => readPrivateFile(path));
  if (found !== undefined) return longEnough(new Secret(found), `The key file ${path}`);
  throw new KeychainError('emptied', `The key file ${path} is gone, and with it what it protected: enrol again.`);
}

function longEnough(secret: Secret, what: string): Secret {
  if (secret.reveal().length >= LEAST_CHARACTERS) return secret;
  throw new KeychainError('failed', `${what} has fewer than ${LEAST_CHARACTERS} characters; choose a longer one.`);
}

// systemd sees to who may read it, and mounts it with owners and modes of its own: those of our files are not asked for.
function readCredential(directory: string): Secret | undefined {
  const path = join(directory, CREDENTIAL);
  let handle: number;
  try {
    handle = openSync(path, 'r');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new KeychainError('failed', `The credential ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  try {
    if (!fstatSync(handle).isFile()) throw new KeychainError('failed', `The credential ${path} is not a plain file.`);
    const bytes = Buffer.alloc(LARGEST_BYTES + 1);
    const length = readSync(handle, bytes);
    if (length > LARGEST_BYTES)
      throw new KeychainError('failed', `The credential ${path} is over ${LARGEST_BYTES} bytes.`);
    // Random bytes are as good as text, and text must not depend on a newline at its end.
    return new Secret(bytes.toString('latin1', 0, length).replace(/[\r\n]+$/, ''));
  } finally {
    closeSync(handle);
  }
}

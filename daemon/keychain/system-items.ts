import { KeychainError } from './keychain-error.ts';
import type { Items } from './items.ts';
import { keyringState, type Environment } from './secret-service.ts';

// What keytar and napi-keyring have in common: they are native code that may hang, speak in strings, and say too little
// about why there is no answer.

/** A package that reaches the keychain of the system. */
export type Vault = {
  get(account: string): Promise<string | null>;
  set(account: string, value: string): Promise<void>;
  delete(account: string): Promise<void>;
  /** Whether it throws for an item in a locked keyring; otherwise "no such item" may mean either. */
  tellsLocked: boolean;
};

/** Which system, and whose items. */
export type SystemSettings = {
  platform: NodeJS.Platform;
  environment: Environment;
  installId: string;
  /** How long one call may take; 5 s when nothing is said. */
  limitMs?: number;
};

/** The name of all our items in the keychain of the system. */
export const SERVICE = 'sallyport';

const USUAL_LIMIT_MS = 5000;

/** The items of one installation in the keychain of the system. */
export function systemItems(vault: Vault, settings: SystemSettings): Items {
  const { platform, environment, installId, limitMs = USUAL_LIMIT_MS } = settings;
  const isLinux = platform === 'linux';
  // Two installations of one person (a second state folder, a trial) share the keychain, and must not meet in it.
  const account = (name: string) => `${installId}/${name}`;
  let isHanging = false;

  /**
   * On Linux the service is asked how it is before any native code is: a call to a locked keyring waits for a person, one to
   * a service that hangs waits for as long as D-Bus does, and until it is back not even `process.exit` ends the process. Whether
   * there is a keyring to look into.
   */
  async function isReady(): Promise<boolean> {
    if (!isLinux) return true;
    switch (await keyringState(environment, limitMs)) {
      case 'unlocked':
        return true;
      case 'none':
        return false;
      case 'locked':
        throw locked();
      case 'absent':
        throw absent();
      case 'silent':
        throw new KeychainError('failed', 'The keychain does not answer; restart its service, then try again.');
      case 'unknown':
        if (vault.tellsLocked) return true;
        throw new KeychainError(
          'failed',
          'Whether the keychain is locked cannot be asked; install gdbus (libglib2.0-bin), busctl or dbus-send.',
        );
    }
  }

  async function ask<T>(work: () => Promise<T>): Promise<T> {
    // A hanging call holds one of the few threads of the process; one may, not all of them.
    if (isHanging) throw failed(new Error('an earlier call has not come back yet'));
    let timer: NodeJS.Timeout | undefined;
    try {
      const answer = work().finally(() => (isHanging = false));
      const limit = new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          isHanging = true;
          reject(new Error(`no answer within ${limitMs / 1000} s`));
        }, limitMs);
      });
      return await Promise.race([answer, limit]);
    } catch (cause) {
      throw failed(cause);
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    async get(name) {
      if (!(await isReady())) return undefined;
      const found = await ask(() => vault.get(account(name)));
      return found === null ? undefined : Buffer.from(found, 'base64url');
    },
    async set(name, value) {
      if (!(await isReady())) throw noKeyring();
      await ask(() => vault.set(account(name), value.toString('base64url')));
    },
    async delete(name) {
      if (await isReady()) await ask(() => vault.delete(account(name)));
    },
  };
}

function failed(cause: unknown): KeychainError {
  const says = (cause as Error).message;
  // What macOS says to a process that may not show a window, and what a keyring says that was locked a moment ago.
  if (/interaction is not allowed|-25308|locked collection|prompt was dismissed/i.test(says)) return locked(cause);
  return new KeychainError(
    'failed',
    `The keychain does not work (${says}); mend it and try again, or enrol again with SALLYPORT_KEYCHAIN=file.`,
    { cause },
  );
}

function locked(cause?: unknown): KeychainError {
  return new KeychainError(
    'locked',
    'The keychain is locked; unlock it (log in to the desktop, or open Passwords and Keys), then try again.',
    { cause },
  );
}

function absent(): KeychainError {
  return new KeychainError(
    'absent',
    'There is no keychain here (nobody answers on the session bus); install gnome-keyring and libsecret and log in again, or set SALLYPORT_KEYCHAIN=file.',
  );
}

function noKeyring(): KeychainError {
  return new KeychainError(
    'absent',
    'The keychain has no default keyring; make one (it is made when you log in to the desktop, or with Passwords and Keys), or set SALLYPORT_KEYCHAIN=file.',
  );
}

import { KeychainError } from './keychain-error.ts';
import type { Load } from './keytar.ts';
import { SERVICE, type Vault } from './system-items.ts';

type Keyring = {
  AsyncEntry: new (
    service: string,
    account: string,
    options: typeof OPTIONS,
  ) => {
    getPassword(): Promise<string | null>;
    setPassword(value: string): Promise<void>;
    deleteCredential(): Promise<boolean>;
  };
};

// Without it the package falls back, without a word, to the keyring of the kernel, which forgets everything at a restart.
const OPTIONS = { linux: { store: 'secret-service' } } as const;

/** @napi-rs/keyring, which comes ready made. On Linux and Windows it does not see what keytar keeps, nor the reverse. */
export async function openNapiKeyring(load: Load): Promise<Vault> {
  let keyring: Keyring;
  try {
    keyring = (await load('@napi-rs/keyring')) as Keyring;
  } catch (cause) {
    throw new KeychainError('absent', `@napi-rs/keyring cannot be loaded: ${(cause as Error).message}`, { cause });
  }
  // It connects when it is made: it throws there when it cannot, and blocks the process for as long as D-Bus waits.
  const entry = async (account: string) => new keyring.AsyncEntry(SERVICE, account, OPTIONS);
  return {
    get: async (account) => (await entry(account)).getPassword(),
    set: async (account, value) => (await entry(account)).setPassword(value),
    async delete(account) {
      await (await entry(account)).deleteCredential();
    },
    tellsLocked: true,
  };
}

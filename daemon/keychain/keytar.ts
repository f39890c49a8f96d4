import { KeychainError } from './keychain-error.ts';
import { SERVICE, type Vault } from './system-items.ts';

// Only these three. Its find* functions end the whole process with a segmentation fault when the keyring is locked.
type Keytar = {
  getPassword(service: string, account: string): Promise<string | null>;
  setPassword(service: string, account: string, value: string): Promise<void>;
  deletePassword(service: string, account: string): Promise<boolean>;
};

/** Loads a package by its name. */
export type Load = (name: string) => Promise<unknown>;

/** keytar, where it could be installed; it is built on the machine when its maker has nothing ready for it. */
export async function openKeytar(load: Load): Promise<Vault> {
  let keytar: Keytar;
  try {
    keytar = ((await load('keytar')) as { default: Keytar }).default;
  } catch (cause) {
    throw new KeychainError('absent', `keytar cannot be loaded: ${firstLine(cause)}`, { cause });
  }
  return {
    get: (account) => keytar.getPassword(SERVICE, account),
    set: (account, value) => keytar.setPassword(SERVICE, account, value),
    async delete(account) {
      await keytar.deletePassword(SERVICE, account);
    },
    tellsLocked: false,
  };
}

// Node adds the stack of what wanted the package.
function firstLine(error: unknown): string {
  return (error as Error).message.split('\n', 1)[0] ?? '';
}

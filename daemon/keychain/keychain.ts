import { randomBytes, timingSafeEqual } from 'node:crypto';
import { openEncryptedFile, type EncryptedFileSettings } from './encrypted-file.ts';
import type { Items } from './items.ts';
import { KeychainError } from './keychain-error.ts';
import { openKeytar, type Load } from './keytar.ts';
import { openNapiKeyring } from './napi-keyring.ts';
import { systemItems, type SystemSettings } from './system-items.ts';

// Where the key of this device is kept. The backends do not see each other's items, so one is chosen at enrolment, its name
// is remembered, and no other is asked from then on: "not found" in the wrong place would read as "not enrolled".

/** The backends, the best first. */
export const BACKENDS = ['keytar', 'napi-keyring', 'file'] as const;

/** The name of a backend, to be remembered. */
export type Backend = (typeof BACKENDS)[number];

/** A few named secrets of this installation, in one backend. */
export type Keychain = {
  backend: Backend;
  /** Undefined when there is no such item; throws KeychainError with a sentence. */
  get(name: string): Promise<Buffer | undefined>;
  /** And reads it back, or throws. */
  set(name: string, value: Buffer): Promise<void>;
  /** No error when there is no such item. */
  delete(name: string): Promise<void>;
  /** A sentence for the status, said for as long as this backend is used. */
  warning?: string;
};

/** All that the backends need from outside. */
export type KeychainSettings = SystemSettings & { file: Omit<EncryptedFileSettings, 'installId'>; load: Load };

/** A chosen keychain, and why those before it were not. */
export type Choice = { keychain: Keychain; passedOver: readonly { backend: Backend; why: string }[] };

/** The best keychain that works here, tried with a throw-away item; or the one that is wanted, and no other. */
export async function chooseKeychain(settings: KeychainSettings & { wanted?: Backend | undefined }): Promise<Choice> {
  const { wanted } = settings;
  const passedOver: { backend: Backend; why: string }[] = [];
  for (const backend of wanted === undefined ? BACKENDS : [wanted]) {
    try {
      const keychain = await openKeychain(backend, settings);
      await probe(keychain);
      return { keychain, passedOver };
    } catch (error) {
      if (!(error instanceof KeychainError) || wanted !== undefined) throw error;
      // A locked keychain is a keychain: its owner unlocks it, and is not given something weaker in its place.
      if (error.code === 'locked' || (backend === 'file' && error.code !== 'absent')) throw error;
      passedOver.push({ backend, why: error.message });
    }
  }
  const reasons = passedOver.map(({ backend, why }) => `\n  ${backend}: ${why}`).join('');
  throw new KeychainError(
    'absent',
    `There is no keychain here: install gnome-keyring and libsecret and log in again, or set SALLYPORT_KEYCHAIN=file.${reasons}`,
  );
}

/** The keychain that was chosen before. Nothing is tried, and nothing stands in for it. */
export async function openKeychain(backend: Backend, settings: KeychainSettings): Promise<Keychain> {
  const items = await openItems(backend, settings);
  const { warning } = items;
  return {
    backend,
    ...(warning !== undefined && { warning }),
    async get(name) {
      refuseName(name);
      return items.get(name);
    },
    async set(name, value) {
      refuseName(name);
      refuseSize(value);
      await items.set(name, value);
      // A key that was only believed to be kept is a device that cannot come back.
      const kept = await items.get(name);
      if (kept === undefined || kept.length !== value.length || !timingSafeEqual(kept, value)) {
        throw new KeychainError('failed', `The keychain (${backend}) took the item ${name} and does not give it back.`);
      }
    },
    async delete(name) {
      refuseName(name);
      await items.delete(name);
    },
  };
}

/** The item that has to be there. Whoever finds it gone has to enrol again. */
export async function requireItem(keychain: Keychain, name: string): Promise<Buffer> {
  const value = await keychain.get(name);
  if (value !== undefined) return value;
  throw new KeychainError(
    'emptied',
    `The keychain (${keychain.backend}) works, and the item ${name} is gone: enrol again.`,
  );
}

async function openItems(backend: Backend, settings: KeychainSettings): Promise<Items> {
  switch (backend) {
    case 'keytar':
      return systemItems(await openKeytar(settings.load), settings);
    case 'napi-keyring':
      return systemItems(await openNapiKeyring(settings.load), settings);
    case 'file':
      return openEncryptedFile({ ...settings.file, installId: settings.installId });
  }
}

// The name is always the same: what a crash leaves behind is found and taken away by the next probe.
const PROBE = 'probe';

async function probe(keychain: Keychain): Promise<void> {
  await keychain.set(PROBE, randomBytes(32));
  await keychain.delete(PROBE);
  if ((await keychain.get(PROBE)) !== undefined) {
    throw new KeychainError('failed', `The keychain (${keychain.backend}) does not forget what was deleted.`);
  }
}

// A name becomes the name of a file.
function refuseName(name: string): void {
  if (!/^[a-z0-9][a-z0-9-]{0,63}$/.test(name)) throw new TypeError(`not a name of an item: ${name}`);
}

// Windows takes 2,560 bytes, and what we write is a third longer than what we are given; keytar takes no empty value.
function refuseSize({ length }: Buffer): void {
  if (length === 0 || length > 1024) throw new RangeError(`an item has 1 to 1024 bytes, not ${length}`);
}

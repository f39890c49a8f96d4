import { createHash, type KeyObject } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  createPrivateFile,
  makePrivateFolder,
  readPrivateFile,
  removePrivateFile,
  writePrivateFile,
} from '../files.ts';
import type { Items } from './items.ts';
import { KeychainError, sayingWhy } from './keychain-error.ts';
import { firstSource, passphraseFrom, SOURCES, type PassphraseSettings, type Source } from './passphrase.ts';
import { freshSalt, keyOf, seal, unseal } from './seal.ts';

// For machines without a keychain: a folder with a header, and a file for each item. Two processes that write different
// items at once cannot undo each other's work. The header holds a seal of nothing: what does not open it is the wrong
// passphrase, and an item that does not open after it is damaged.

/** Where the file is, whose it is, and what opens it. */
export type EncryptedFileSettings = PassphraseSettings & { folder: string; installId: string };

type Unlocked = { salt: string; key: KeyObject; source: Source };

type Header = { source: Source; salt: Buffer; check: Buffer };

const HEADER = 'keychain.sealed';
const ITEM = 'item-';
const ENDING = '.sealed';
const VERSION = 'v1';

const INSECURE =
  'The key of this device lies on the disk beside the key that opens it (insecure.key): whoever copies the folder can act as this device. Enrol again with a keychain or a passphrase.';

/** The items in an encrypted folder. Nothing is made, and nobody asked, until an item is read or written. */
export async function openEncryptedFile(settings: EncryptedFileSettings): Promise<Items> {
  const { folder, installId } = settings;
  const headerPath = join(folder, HEADER);
  let unlocked: Unlocked | undefined;
  let last: Promise<unknown> = Promise.resolve();

  // One after the other: two that begin together must not ask a person twice for one passphrase.
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = last.then(work, work);
    last = mine;
    return mine;
  }

  const source = readHeader()?.source ?? firstSource(settings);
  if (source === undefined) {
    throw new KeychainError(
      'absent',
      'There is nothing to encrypt a file with; give a passphrase, or the credential master.key through systemd, or accept an unprotected key with --insecure-key-file.',
    );
  }

  function readHeader(): Header | undefined {
    const text = readFile(headerPath);
    if (text === undefined) return undefined;
    const { install, ...header } = parseHeader(text, headerPath);
    if (install === installId) return header;
    if (hasItems()) {
      throw new KeychainError(
        'failed',
        `${headerPath} belongs to another installation; enrol this one in a folder of its own, or delete this one.`,
      );
    }
    // Left over from an enrolment that never came to its end: it protects nothing, and the next one may begin.
    sayingWhy(() => removePrivateFile(headerPath));
    return undefined;
  }

  function hasItems(): boolean {
    return readdirSync(folder).some((file) => file.startsWith(ITEM) && file.endsWith(ENDING));
  }

  async function unlock(header: Header): Promise<Unlocked> {
    const salt = header.salt.toString('hex');
    if (unlocked?.salt === salt) return unlocked;
    const passphrase = await passphraseFrom(header.source, { ...settings, isNew: false });
    const key = await keyOf(passphrase, header.salt);
    if (unseal(key, about(installId, header.source, 'header'), header.check) === undefined) {
      throw new KeychainError('locked', `This passphrase does not open ${headerPath}; try again with the right one.`);
    }
    return (unlocked = { salt, key, source: header.source });
  }

  async function begin(from: Source): Promise<Unlocked> {
    sayingWhy(() => makePrivateFolder(folder));
    // Nobody can open items without their header, and a new one beside them would hide that.
    if (hasItems()) throw damaged(headerPath);
    const passphrase = await passphraseFrom(from, { ...settings, isNew: true });
    const salt = freshSalt();
    const key = await keyOf(passphrase, salt);
    const check = seal(key, about(installId, from, 'header'), Buffer.alloc(0));
    const text = headerText({ source: from, salt, check }, installId);
    if (sayingWhy(() => createPrivateFile(headerPath, text))) {
      return (unlocked = { salt: salt.toString('hex'), key, source: from });
    }
    // Another process was quicker, and its header counts.
    const theirs = readHeader();
    if (theirs === undefined) throw damaged(headerPath);
    return unlock(theirs);
  }

  const pathOf = (name: string) => join(folder, `${ITEM}${name}${ENDING}`);

  return {
    ...(source === 'key-file' && { warning: INSECURE }),
    get: (name) =>
      inTurn(async () => {
        const text = readFile(pathOf(name));
        if (text === undefined) return undefined;
        const header = readHeader();
        if (header === undefined) throw damaged(headerPath);
        const { key, source: from } = await unlock(header);
        const [version, sealed = ''] = text.split('.');
        const plain =
          version === VERSION
            ? unseal(key, about(installId, from, `item:${name}`), Buffer.from(sealed, 'base64url'))
            : undefined;
        if (plain === undefined) throw damaged(pathOf(name));
        return plain;
      }),
    set: (name, value) =>
      inTurn(async () => {
        const header = readHeader();
        const { key, source: from } = await (header === undefined ? begin(source) : unlock(header));
        const sealed = seal(key, about(installId, from, `item:${name}`), value);
        sayingWhy(() => writePrivateFile(pathOf(name), `${VERSION}.${sealed.toString('base64url')}`));
      }),
    delete: (name) =>
      inTurn(async () => {
        if (readFile(pathOf(name)) !== undefined) sayingWhy(() => removePrivateFile(pathOf(name)));
      }),
  };
}

function headerText({ source, salt, check }: Header, installId: string): string {
  const fields = [VERSION, installId, source, salt.toString('base64url'), check.toString('base64url')].join(' ');
  // Not against anybody: it tells a damaged file from a wrong passphrase.
  return `${fields} ${sum(fields)}`;
}

function parseHeader(text: string, path: string): Header & { install: string } {
  const end = text.lastIndexOf(' ');
  const fields = text.slice(0, Math.max(end, 0));
  const [version, install = '', from, salt = '', check = ''] = fields.split(' ');
  const source = SOURCES.find((one) => one === from);
  if (text.slice(end + 1) !== sum(fields) || source === undefined) throw damaged(path);
  if (version !== VERSION) {
    throw new KeychainError('failed', `${path} was written by a newer version; install that one again.`);
  }
  return { install, source, salt: Buffer.from(salt, 'base64url'), check: Buffer.from(check, 'base64url') };
}

function sum(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 16);
}

// What a seal is about: not moved to another installation, version, source or item.
function about(installId: string, source: Source, purpose: string): string {
  return `sallyport/keychain-file/${VERSION}\n${installId}\n${source}\n${purpose}`;
}

function damaged(path: string): KeychainError {
  return new KeychainError(
    'failed',
    `${path} is damaged or missing; put its folder back from a backup, or delete the folder and enrol again.`,
  );
}

function readFile(path: string): string | undefined {
  return sayingWhy(() => readPrivateFile(path));
}

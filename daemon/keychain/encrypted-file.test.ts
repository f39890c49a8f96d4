import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Secret } from '@sallyport/protocol/secret.ts';
import { openEncryptedFile, type EncryptedFileSettings } from './encrypted-file.ts';
import { KeychainError, type KeychainTrouble } from './keychain-error.ts';

const VALUE = Buffer.alloc(32, 0xa7);
const asks = (text: string) => async () => new Secret(text);

/** A throw with this code, and a sentence that says this. */
function failing(code: KeychainTrouble, pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof KeychainError, String(error));
    assert.match(error.message, pattern);
    assert.equal(error.code, code);
    return true;
  };
}

describe('the encrypted file', () => {
  let parent: string;
  let folder: string;
  let header: string;
  let item: string;
  beforeEach(() => {
    parent = mkdtempSync(join(tmpdir(), 'sallyport-encrypted-'));
    folder = join(parent, 'keychain');
    header = join(folder, 'keychain.sealed');
    item = join(folder, 'item-device.sealed');
  });
  afterEach(() => rmSync(parent, { recursive: true, force: true }));

  const open = (settings: Partial<EncryptedFileSettings> = {}) =>
    openEncryptedFile({ folder, installId: 'install-1', passphrase: asks('a long passphrase'), ...settings });
  const credential = (text: string | Buffer) => {
    const directory = mkdtempSync(join(parent, 'credentials-'));
    writeFileSync(join(directory, 'master.key'), text);
    return directory;
  };

  it('keeps an item from one opening to the next, in files of 0600 in a folder of 0700', async () => {
    const first = await open();
    assert.equal(await first.get('device'), undefined);
    await first.set('device', VALUE);
    const second = await open();
    assert.deepEqual(await second.get('device'), VALUE);
    assert.equal(await second.get('other'), undefined);
    await second.set('device', Buffer.from('new'));
    assert.deepEqual(await first.get('device'), Buffer.from('new'));
    await second.delete('device');
    assert.equal(await first.get('device'), undefined);
    await second.delete('device');
    assert.deepEqual(readdirSync(folder), ['keychain.sealed']);
    assert.deepEqual(
      [folder, header].map((path) => statSync(path).mode & 0o777),
      [0o700, 0o600],
    );
  });

  it('makes nothing, and asks nobody, before there is an item', async () => {
    let asked = 0;
    const keychain = await open({ passphrase: async () => new Secret(`passphrase ${++asked}`) });
    await keychain.get('device');
    await keychain.delete('device');
    assert.deepEqual([asked, readdirSync(parent)], [0, []]);
  });

  it('asks once for all that is begun together, and says whether the passphrase is a new one', async () => {
    const asked: boolean[] = [];
    const passphrase = async (isNew: boolean) => {
      asked.push(isNew);
      return new Secret('a long passphrase');
    };
    const first = await open({ passphrase });
    await Promise.all([first.set('device', VALUE), first.set('other', VALUE), first.get('device')]);
    const second = await open({ passphrase });
    await Promise.all([second.get('device'), second.get('other')]);
    assert.deepEqual(asked, [true, false]);
  });

  it('holds neither the value nor the passphrase, and seals the same value anew each time', async () => {
    const keychain = await open();
    await keychain.set('device', VALUE);
    const [first, top] = [readFileSync(item, 'latin1'), readFileSync(header, 'latin1')];
    await keychain.set('device', VALUE);
    assert.notEqual(readFileSync(item, 'latin1'), first);
    for (const form of ['latin1', 'hex', 'base64', 'base64url'] as const) {
      const [value, passphrase] = [VALUE.toString(form).slice(0, 20), Buffer.from('a long passphrase').toString(form)];
      for (const text of [first, top])
        assert.ok(!text.includes(value) && !text.includes(passphrase.slice(0, 20)), form);
    }
  });

  it('says locked of a wrong passphrase, and asks again the next time', async () => {
    await (await open()).set('device', VALUE);
    const given = ['another passphrase', 'a long passphrase'];
    const keychain = await open({ passphrase: async () => new Secret(given.shift() ?? '') });
    await assert.rejects(keychain.get('device'), failing('locked', /This passphrase does not open .*; try again/));
    assert.deepEqual(await keychain.get('device'), VALUE);
    await assert.rejects(
      (await open({ passphrase: asks('another passphrase') })).set('device', VALUE),
      failing('locked', /does not open/),
    );
    assert.deepEqual(await (await open()).get('device'), VALUE);
  });

  it('refuses a passphrase that is too short to begin with', async () => {
    await assert.rejects(
      (await open({ passphrase: asks('elevenchars') })).set('device', VALUE),
      failing('failed', /fewer than 12/),
    );
    await (await open({ passphrase: asks('twelve chars') })).set('device', VALUE);
  });

  const damages: [title: string, damage: () => void][] = [
    ['a bit of the item', () => flip(item, -5)],
    ['the version of the item', () => flip(item, 1)],
    ['the end of the item', () => writeFileSync(item, readFileSync(item, 'latin1').slice(0, -10))],
    ['all of the item', () => writeFileSync(item, '')],
    ['the salt', () => flip(header, readFileSync(header, 'latin1').length - 70)],
    ['the version of the header', () => flip(header, 1)],
    ['the end of the header', () => writeFileSync(header, readFileSync(header, 'latin1').slice(0, -10))],
    ['all of the header', () => writeFileSync(header, '')],
    ['the header itself', () => rmSync(header)],
    ['which item it is', () => renameSync(join(folder, 'item-other.sealed'), item)],
  ];
  function flip(path: string, at: number) {
    const bytes = readFileSync(path);
    const index = at < 0 ? bytes.length + at : at;
    bytes[index] = bytes[index]! ^ 1;
    writeFileSync(path, bytes);
  }
  for (const [title, damage] of damages) {
    it(`says damaged, and not that there is no item, when ${title} was changed or lost`, async () => {
      const keychain = await open();
      await keychain.set('device', VALUE);
      await keychain.set('other', Buffer.from('other'));
      damage();
      const says = failing('failed', /is damaged or missing; put its folder back from a backup, or delete/);
      await assert.rejects(async () => (await open()).get('device'), says);
    });
  }

  it('begins no new file beside items that only the lost one opens', async () => {
    await (await open()).set('device', VALUE);
    rmSync(header);
    await assert.rejects(
      (await open()).set('other', VALUE),
      failing('failed', /keychain\.sealed is damaged or missing/),
    );
    assert.deepEqual(readdirSync(folder), ['item-device.sealed']);
  });

  it('does not open for another installation, whatever its header says', async () => {
    await (await open()).set('device', VALUE);
    await assert.rejects(open({ installId: 'install-2' }), failing('failed', /belongs to another installation/));
    // The header is not secret, and whoever copies the folder can write another one.
    const [version, , ...rest] = readFileSync(header, 'utf8').split(' ').slice(0, -1);
    const fields = [version, 'install-2', ...rest].join(' ');
    const sum = createHash('sha256').update(fields).digest('base64url').slice(0, 16);
    writeFileSync(header, `${fields} ${sum}`);
    const stolen = await open({ installId: 'install-2' });
    await assert.rejects(stolen.get('device'), failing('locked', /does not open/));
  });

  it('begins anew over what an enrolment left that never came to its end, under another name and passphrase', async () => {
    const first = await open();
    await first.set('probe', VALUE);
    await first.delete('probe');
    const second = await open({ installId: 'install-2', passphrase: asks('another passphrase') });
    await second.set('device', VALUE);
    assert.deepEqual(await second.get('device'), VALUE);
    await assert.rejects(open(), failing('failed', /belongs to another installation/));
  });

  it('goes on with what another process has begun anew', async () => {
    const keychain = await open();
    await keychain.set('device', VALUE);
    rmSync(folder, { recursive: true });
    await (await open()).set('device', Buffer.from('new'));
    assert.deepEqual(await keychain.get('device'), Buffer.from('new'));
  });

  const foreign: [title: string, prepare: () => void, says: RegExp][] = [
    ['an item that the group may read', () => chmodSync(item, 0o640), /open to other users \(mode 640\)/],
    ['a header that others may read', () => chmodSync(header, 0o604), /open to other users \(mode 604\)/],
    ['an item behind a link', () => link(item), /is a symbolic link/],
    ['a header behind a link', () => link(header), /is a symbolic link/],
  ];
  function link(path: string) {
    renameSync(path, join(parent, 'elsewhere'));
    symlinkSync(join(parent, 'elsewhere'), path);
  }
  for (const [title, prepare, says] of foreign) {
    it(`refuses ${title}`, async () => {
      await (await open()).set('device', VALUE);
      prepare();
      await assert.rejects(async () => (await open()).get('device'), failing('failed', says));
    });
  }

  it('begins in no folder that others can look into', async () => {
    mkdirSync(folder, { mode: 0o755 });
    await assert.rejects((await open()).set('device', VALUE), failing('failed', /mode 755.*chmod 700/));
  });

  describe('by where its passphrase comes from', () => {
    it('takes the credential of systemd first, a newline at its end or not', async () => {
      const credentialsDirectory = credential('a key of the machine\n');
      await (await open({ credentialsDirectory, insecureKeyFile: true })).set('device', VALUE);
      const again = await open({ credentialsDirectory: credential('a key of the machine'), passphrase: undefined });
      assert.deepEqual(await again.get('device'), VALUE);
      assert.equal(again.warning, undefined);
    });

    it('tells random bytes apart, which as text would all be the same', async () => {
      await (await open({ credentialsDirectory: credential(Buffer.alloc(32, 0xfe)) })).set('device', VALUE);
      const other = await open({ credentialsDirectory: credential(Buffer.alloc(32, 0xff)) });
      await assert.rejects(other.get('device'), failing('locked', /does not open/));
    });

    it('refuses a credential without an end, and one that is too short', async () => {
      const endless = credential(Buffer.alloc(65_537, 1));
      await assert.rejects(
        open({ credentialsDirectory: endless }),
        failing('failed', /master\.key is over 65536 bytes/),
      );
      const short = await open({ credentialsDirectory: credential('elevenchars\n') });
      await assert.rejects(short.set('device', VALUE), failing('failed', /master\.key has fewer than 12/));
    });

    it('says what it wants when the credential is not given any more, and tries nothing else', async () => {
      await (await open({ credentialsDirectory: credential('a key of the machine') })).set('device', VALUE);
      await assert.rejects(
        (await open()).get('device'),
        failing('locked', /credential master\.key, which is not given/),
      );
    });

    it('says what it wants when nobody gives the passphrase any more', async () => {
      await (await open()).set('device', VALUE);
      const keychain = await open({ passphrase: undefined, credentialsDirectory: credential('a key of the machine') });
      await assert.rejects(keychain.get('device'), failing('locked', /made with a passphrase, which nobody gives/));
    });

    it('writes a key beside it only when that was said, and warns for ever', async () => {
      await assert.rejects(open({ passphrase: undefined }), failing('absent', /nothing to encrypt a file with/));
      const keychain = await open({ passphrase: undefined, insecureKeyFile: true });
      await keychain.set('device', VALUE);
      assert.equal(statSync(join(folder, 'insecure.key')).mode & 0o777, 0o600);
      // Not even a passphrase given later, or the switch left out, makes it forget.
      for (const settings of [
        { passphrase: undefined },
        {},
        { credentialsDirectory: credential('a key of the machine') },
      ]) {
        const later = await open(settings);
        assert.match(later.warning ?? '', /insecure\.key.*whoever copies the folder/);
        assert.deepEqual(await later.get('device'), VALUE);
      }
    });

    it('says emptied when the key beside it is gone, and makes no other', async () => {
      await (await open({ passphrase: undefined, insecureKeyFile: true })).set('device', VALUE);
      rmSync(join(folder, 'insecure.key'));
      const keychain = await open({ passphrase: undefined, insecureKeyFile: true });
      await assert.rejects(keychain.get('device'), failing('emptied', /insecure\.key is gone.*enrol again/));
      await assert.rejects(keychain.set('device', VALUE), failing('emptied', /enrol again/));
    });

    it('refuses the key beside it when others may read it', async () => {
      await (await open({ passphrase: undefined, insecureKeyFile: true })).set('device', VALUE);
      chmodSync(join(folder, 'insecure.key'), 0o644);
      const keychain = await open({ passphrase: undefined });
      await assert.rejects(keychain.get('device'), failing('failed', /insecure\.key is open to other users/));
    });
  });

  it('is begun by one of two that begin at once, and both can read what the other wrote', async () => {
    const [one, two] = await Promise.all([open(), open()]);
    await Promise.all([one.set('one', VALUE), two.set('two', VALUE)]);
    assert.deepEqual(await one.get('two'), VALUE);
    assert.deepEqual(await two.get('one'), VALUE);
    assert.deepEqual(await (await open()).get('one'), VALUE);
  });
});

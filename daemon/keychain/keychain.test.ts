import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chooseKeychain, openKeychain, type KeychainSettings } from './keychain.ts';
import { hasKeyring, hasKeytar, isThere, pathWith, startSession, type Session } from './keyring.test-support.ts';

const VALUE = '5e'.repeat(31) + '00';
const INSTALL = 'install-of-the-tests';

describe('the keychain of the system', () => {
  let session: Session;

  before(async function () {
    if (!hasKeyring() || !(await hasKeytar())) this.skip();
  });
  beforeEach(async () => {
    session = await startSession();
  });
  afterEach(() => session.stop());

  it('is keytar where it works, and a throw-away item is all that choosing leaves', async () => {
    await session.unlock();
    const { backend, passedOver, warning } = await session.use({});
    assert.deepEqual({ backend, passedOver, warning }, { backend: 'keytar', passedOver: [], warning: undefined });
    assert.equal(session.run('secret-tool', 'search', '--all', 'service', 'sallyport'), '');
  });

  it('is napi-keyring where keytar is not installed, and says why', async () => {
    await session.unlock();
    const { backend, passedOver } = await session.use({ missing: ['keytar'] });
    assert.equal(backend, 'napi-keyring');
    assert.match(passedOver?.[0]?.why ?? '', /^keytar cannot be loaded: Cannot find package/);
  });

  for (const backend of ['keytar', 'napi-keyring'] as const) {
    describe(`through ${backend}`, () => {
      const use = (...steps: NonNullable<Parameters<Session['use']>[0]['steps']>) =>
        session.use({ open: backend, steps });

      it('keeps an item from one process to the next, where the desktop shows it', async () => {
        await session.unlock();
        const first = await use(['get', 'device'], ['set', 'device', VALUE], ['get', 'device']);
        assert.deepEqual(first.steps, [{}, {}, { value: VALUE }]);
        const label = backend === 'keytar' ? 'account' : 'username';
        const seen = session.run('secret-tool', 'search', 'service', 'sallyport', label, `${INSTALL}/device`);
        assert.ok(seen.includes(Buffer.from(VALUE, 'hex').toString('base64url')), seen);
        const second = await use(['require', 'device'], ['delete', 'device'], ['get', 'device'], ['delete', 'device']);
        assert.deepEqual(second.steps, [{ value: VALUE }, {}, {}, {}]);
      });

      it('says locked of a locked keyring, whether the item is in it or not', async () => {
        await session.unlock();
        await use(['set', 'device', VALUE]);
        session.lock();
        const { steps } = await use(['get', 'device'], ['get', 'none'], ['set', 'device', '00'], ['delete', 'device']);
        for (const step of steps) assert.deepEqual(step, { code: 'locked', says: LOCKED });
      });

      it('says emptied, and to enrol again, when the keyring is open and the item is gone', async () => {
        await session.unlock();
        await use(['set', 'device', VALUE]);
        session.run('secret-tool', 'clear', 'service', 'sallyport');
        const { steps } = await use(['get', 'device'], ['require', 'device']);
        assert.deepEqual(steps[0], {});
        assert.equal(steps[1]?.code, 'emptied');
        assert.match(steps[1].says ?? '', /is gone: enrol again/);
      });

      it('says that there is no default keyring where the service has none', async () => {
        const { steps } = await use(['set', 'device', VALUE]);
        assert.equal(steps[0]?.code, 'absent');
        assert.match(steps[0].says ?? '', /no default keyring; make one/);
      });

      it('says absent where nobody answers, and never that an item is not there', async () => {
        const nobody = await startSession({ hasBus: false });
        try {
          const { steps } = await nobody.use({
            open: backend,
            steps: [
              ['get', 'device'],
              ['set', 'device', VALUE],
              ['delete', 'device'],
            ],
          });
          assert.deepEqual(
            steps.map(({ code }) => code),
            ['absent', 'absent', 'absent'],
          );
          for (const { says = '' } of steps) assert.match(says, /install gnome-keyring.*SALLYPORT_KEYCHAIN=file/);
        } finally {
          await nobody.stop();
        }
      });
    });
  }

  it('does not see in one package what the other keeps, so that no other may stand in', async () => {
    await session.unlock();
    await session.use({ open: 'keytar', steps: [['set', 'device', VALUE]] });
    const { steps } = await session.use({ open: 'napi-keyring', steps: [['get', 'device']] });
    assert.deepEqual(steps, [{}]);
  });

  it('is the one that is wanted, and no better one', async () => {
    await session.unlock();
    for (const wanted of ['napi-keyring', 'file'] as const) {
      const { backend, passedOver } = await session.use({ wanted, passphrase: 'a long passphrase' });
      assert.deepEqual([backend, passedOver], [wanted, []]);
    }
  });

  it('stops at a locked keyring, and takes nothing weaker in its place', async () => {
    await session.unlock();
    session.lock();
    const { opened, backend } = await session.use({ insecureKeyFile: true });
    assert.equal(backend, undefined);
    assert.deepEqual(opened, { code: 'locked', says: LOCKED });
    assert.ok(!existsSync(join(session.home, 'keychain')));
  });

  it('asks through busctl or dbus-send where gdbus is not there', async () => {
    await session.unlock();
    await session.use({ open: 'keytar', steps: [['set', 'device', VALUE]] });
    const steps: [['get', string]] = [['get', 'none']];
    for (const program of ['busctl', 'dbus-send']) {
      // A part of systemd, which a container has no use for; the others come with the session bus.
      if (program === 'busctl' && !isThere(program)) {
        console.log('      skipped in part: there is no busctl; install systemd');
        continue;
      }
      const PATH = folderWith(session, program, `exec ${session.run('which', program).trim()} "$@"`);
      assert.deepEqual((await session.use({ open: 'keytar', steps }, { PATH })).steps, [{}], program);
      session.lock();
      assert.equal((await session.use({ open: 'keytar', steps }, { PATH })).steps[0]?.code, 'locked', program);
      await session.stop();
      session = await startSession();
      await session.unlock();
    }
  });

  it('does not guess where there is nothing to ask with, and takes the package that knows', async () => {
    await session.unlock();
    const PATH = folderWith(session, 'something-else', '');
    const { backend, passedOver } = await session.use({}, { PATH });
    assert.equal(backend, 'napi-keyring');
    assert.match(passedOver?.[0]?.why ?? '', /^Whether the keychain is locked cannot be asked; install gdbus/);
  });

  it('says of a service that hangs that it does not answer, and can still end', async () => {
    await session.unlock();
    await session.use({ open: 'keytar', steps: [['set', 'device', VALUE]] });
    await session.whileSilent(async () => {
      for (const open of ['keytar', 'napi-keyring'] as const) {
        // Asked without looking first, both wait for as long as D-Bus does, and the process cannot end before that.
        const { steps } = await session.use({ open, limitMs: 300, steps: [['get', 'device']] });
        assert.equal(steps[0]?.code, 'failed');
        assert.match(steps[0].says ?? '', /does not answer; restart its service/);
      }
    });
    assert.deepEqual((await session.use({ open: 'keytar', steps: [['get', 'device']] })).steps, [{ value: VALUE }]);
  });

  it('lets no secret into a file, an argument or a variable', async () => {
    await session.unlock();
    const log = join(session.home, 'asked');
    const real = session.run('which', 'gdbus').trim();
    const PATH = pathWith(
      folderWith(session, 'gdbus', `{ echo "$@"; env; } >> ${log}; exec ${real} "$@"`),
      session.environment,
    );
    for (const open of ['keytar', 'napi-keyring'] as const) {
      const { steps } = await session.use(
        {
          open,
          steps: [
            ['set', 'device', VALUE],
            ['get', 'device'],
            ['get', 'none'],
          ],
        },
        { PATH, PLANTED: 'not-for-children' },
      );
      assert.deepEqual(steps[1], { value: VALUE });
    }
    const asked = readFileSync(log, 'utf8');
    assert.match(asked, /ReadAlias default/);
    assert.ok(!asked.includes('not-for-children'), 'the environment of the daemon is handed on');
    const searched = filesIn(session.home);
    assert.ok(searched.some((file) => file.endsWith('.keyring')) && searched.includes(log));
    const secret = Buffer.from(VALUE, 'hex');
    const forms = [
      secret,
      ...(['hex', 'base64', 'base64url'] as const).map((form) => Buffer.from(secret.toString(form))),
    ];
    for (const file of searched) {
      for (const form of forms) assert.ok(!readFileSync(file).includes(form.subarray(0, 20)), file);
    }
  });
});

describe('without a keychain of the system', () => {
  let session: Session;
  beforeEach(async () => {
    session = await startSession({ hasBus: false });
  });
  afterEach(() => session.stop());

  it('is the encrypted file, when there is something to encrypt with', async () => {
    const { backend, passedOver, warning } = await session.use({ passphrase: 'a long passphrase' });
    assert.equal(backend, 'file');
    assert.equal(warning, undefined);
    assert.deepEqual(
      passedOver?.map((one) => one.backend),
      ['keytar', 'napi-keyring'],
    );
  });

  it('is nothing, with every reason and what to do, when there is not', async () => {
    const { opened } = await session.use({});
    assert.equal(opened.code, 'absent');
    assert.match(opened.says ?? '', /^There is no keychain here: install gnome-keyring .*SALLYPORT_KEYCHAIN=file/);
    assert.match(opened.says ?? '', /\n {2}keytar: .+\n {2}napi-keyring: .+\n {2}file: .*give a passphrase/);
  });

  it('is never the keyring of the kernel, which forgets: napi-keyring wants the bus even where nobody could be asked', async () => {
    const PATH = folderWith(session, 'something-else', '');
    const { steps } = await session.use({ open: 'napi-keyring', steps: [['set', 'device', VALUE]] }, { PATH });
    assert.equal(steps[0]?.code, 'failed');
    assert.match(steps[0].says ?? '', /DBus error/);
  });

  it('takes no other where one is wanted', async () => {
    const { opened, backend } = await session.use({ wanted: 'napi-keyring', passphrase: 'a long passphrase' });
    assert.equal(backend, undefined);
    assert.equal(opened.code, 'absent');
    assert.match(opened.says ?? '', /^There is no keychain here \(nobody answers on the session bus\)[^\n]*$/);
  });
});

describe('a keychain of any kind', () => {
  /** With packages that are not here, on a system where nobody else is asked. */
  const settings = (keytar: object): KeychainSettings => ({
    platform: 'win32',
    environment: {},
    installId: INSTALL,
    file: { folder: '/nonexistent' },
    load: async () => ({ default: keytar }),
  });
  const kept = new Map<string, string>();
  const keeping = {
    getPassword: async (_service: string, account: string) => kept.get(account) ?? null,
    setPassword: async (_service: string, account: string, value: string) => void kept.set(account, value),
    deletePassword: async (_service: string, account: string) => kept.delete(account),
  };

  it('takes the names and sizes that every backend can keep, and no others', async () => {
    const keychain = await openKeychain('keytar', settings(keeping));
    const longest = 'n'.repeat(64);
    for (const name of ['device', '2nd-key', longest]) {
      await keychain.set(name, Buffer.alloc(1024, 7));
      assert.equal((await keychain.get(name))?.length, 1024);
      await keychain.delete(name);
    }
    for (const name of ['', '-x', 'A', '../device', 'a/b', 'a.b', 'a b', `${longest}n`]) {
      const says = { name: 'TypeError', message: `not a name of an item: ${name}` };
      await assert.rejects(keychain.get(name), says);
      await assert.rejects(keychain.set(name, Buffer.from('x')), says);
      await assert.rejects(keychain.delete(name), says);
    }
    for (const size of [0, 1025]) await assert.rejects(keychain.set('device', Buffer.alloc(size)), RangeError);
  });

  const liars: [title: string, keytar: object, says: RegExp][] = [
    [
      'keeps nothing',
      { ...keeping, setPassword: async () => undefined },
      /took the item probe and does not give it back/,
    ],
    ['keeps something else', { ...keeping, getPassword: async () => 'AAAA' }, /does not give it back/],
    ['forgets nothing', { ...keeping, deletePassword: async () => true }, /does not forget what was deleted/],
  ];
  for (const [title, keytar, says] of liars) {
    it(`is not one that ${title}`, async () => {
      kept.clear();
      await assert.rejects(chooseKeychain({ ...settings(keytar), wanted: 'keytar' }), says);
    });
  }
});

const LOCKED = 'The keychain is locked; unlock it (log in to the desktop, or open Passwords and Keys), then try again.';

/** A folder with this one program in it, to be put on the path. */
function folderWith(session: Session, program: string, script: string): string {
  const folder = join(session.home, `path-${program}`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, program), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, program), 0o755);
  return folder;
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

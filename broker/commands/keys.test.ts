import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Secret } from '@sallyport/protocol/secret.ts';
import { readConfig } from '../config/config.ts';
import { onEachDatabase } from '../store/databases.test-support.ts';
import { Envelope } from '../store/envelope.ts';
import { keyId, keyRing } from '../store/key-ring.ts';
import { keysCommand } from './keys.ts';
import type { Terminal } from './terminal.ts';

const PLACE = { table: 'invites', column: 'psk_sealed', row: 'a' };
const [OLD, NEW] = [randomBytes(32), randomBytes(32)].map((bytes) => new Secret(bytes)) as [
  Secret<Buffer>,
  Secret<Buffer>,
];
const [oldId, newId] = [OLD, NEW].map(keyId) as [string, string];
const text = (...keys: Secret<Buffer>[]) => keys.map((key) => key.reveal().toString('base64')).join(',');

async function run(env: Record<string, string>, words: string[], yaml?: string) {
  const shown = { said: [] as string[], written: '', code: 0, files: [] as (string | undefined)[] };
  const terminal: Terminal = {
    readConfig(file) {
      shown.files.push(file);
      const readFile = () => yaml ?? '{ log: { level: info } }';
      const { config, mistakes = [] } = readConfig({ env, cwd: tmpdir(), file, readFile });
      for (const { says } of mistakes) shown.said.push(says);
      return config;
    },
    now: Date.now,
    say: (line) => void shown.said.push(line),
    write: (piece) => void (shown.written += piece),
    exit: (code) => void (shown.code = code),
    untilAskedToStop: () => Promise.resolve('SIGTERM'),
  };
  await keysCommand(terminal).parseAsync(words, { from: 'user' });
  return shown;
}

describe('keys new', () => {
  it('prints a key and nothing else, names it on the side, and reads no configuration', async () => {
    const { written, said, files, code } = await run({}, ['new']);
    assert.match(written, /^[A-Za-z0-9+/]{43}=\n$/);
    assert.deepEqual([files, code, said.length], [[], 0, 1]);
    const key = new Secret(Buffer.from(written, 'base64'));
    assert.ok(said[0]!.startsWith(`This is the encryption key ${keyId(key)}. Keep it where the database is not`));
    assert.ok(!said[0]!.includes(written.trim()));
    assert.notEqual((await run({}, ['new'])).written, written);
  });

  it('is a verb of the program, needs no configuration, and gives what the configuration takes', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-keys-'));
    const main = join(import.meta.dirname, '../main.ts');
    const keys = (...words: string[]) =>
      promisify(execFile)(process.execPath, [main, 'keys', ...words], {
        cwd: folder,
        env: { PATH: process.env['PATH'] },
      });
    const { stdout } = await keys('new');
    const data = join(folder, 'data');
    writeFileSync(join(folder, 'sallyport.yaml'), `encryption: { keys: ["${stdout.trim()}"] }\ndata: ${data}\n`);
    const id = keyId(new Secret(Buffer.from(stdout, 'base64')));
    assert.equal((await keys('list')).stdout, `${id}  primary   0 data keys\n`);
    assert.ok(!existsSync(join(data, 'encryption.key')));
    rmSync(folder, { recursive: true });
  });
});

onEachDatabase('keys', (fresh) => {
  let folder: string;
  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'sallyport-keys-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  // A SQLite of the command's own, where the tests give none: it is always <data>/sallyport.db.
  const keys = (ring: string | undefined, ...words: string[]) => {
    const { place } = fresh();
    const env = {
      SALLYPORT_DATA: place.kind === 'sqlite' ? join(place.file, '..') : folder,
      ...(place.kind === 'postgres' && { DATABASE_URL: place.url.reveal() }),
      ...(ring !== undefined && { ENCRYPTION_KEY: ring }),
    };
    return run(env, words);
  };
  const seal = (key: Secret<Buffer>, plain = 'kept') => {
    const envelope = new Envelope({ ring: keyRing([key]), now: Date.now });
    return fresh().database.write((tx) => envelope.seal(tx, PLACE, Buffer.from(plain)));
  };

  it('list shows the ring, what each key holds, and what is missing', async () => {
    assert.equal(
      (await keys(text(NEW, OLD), 'list')).written,
      `${newId}  primary   0 data keys\n${oldId}  decrypts  0 data keys\n`,
    );
    await seal(OLD);
    assert.equal(
      (await keys(text(NEW, OLD), 'list')).written,
      `${newId}  primary   0 data keys\n${oldId}  decrypts  1 data key\n`,
    );
    const { written, code } = await keys(text(NEW), 'list', '--json');
    assert.deepEqual(JSON.parse(written), [
      { id: newId, role: 'primary', data_keys: 0 },
      { id: oldId, role: 'missing', data_keys: 1 },
    ]);
    assert.equal(code, 0);
  });

  it('check says ok, or names what is missing and fails', async () => {
    await seal(OLD);
    assert.deepEqual(await keys(text(OLD), 'check'), {
      said: [],
      written: 'ok: 1 key, and nothing in the database needs another\n',
      code: 0,
      files: [undefined],
    });
    const { said, written, code } = await keys(text(NEW), 'check');
    assert.deepEqual([written, code], ['', 1]);
    assert.match(
      said.join('\n'),
      new RegExp(`^Failed to decrypt data: the encryption key ${oldId} is not in the key ring`),
    );
  });

  it('rotate hands over to the first key, says how far it is, and what may be taken out afterwards', async () => {
    const sealed = await seal(OLD);
    const { said, written, code } = await keys(text(NEW, OLD), 'rotate', '--config', 'some.yaml');
    assert.deepEqual([said, code], [['1 done, 0 left'], 0]);
    const [done, free, ...rest] = written.split('\n');
    assert.equal(done, `1 data key handed over to ${newId}`);
    assert.match(
      free!,
      new RegExp(`^${oldId} holds nothing any more; once every broker has ${newId} first, it may be taken`),
    );
    assert.deepEqual(rest, ['']);
    assert.equal((await keys(text(NEW), 'check')).code, 0);
    const envelope = new Envelope({ ring: keyRing([NEW]), now: Date.now });
    assert.equal((await envelope.open(fresh().database.read, PLACE, sealed)).toString(), 'kept');
    assert.match((await keys(text(NEW), 'rotate')).written, /^0 data keys handed over to k\w+\n$/);
  });

  it('rotate fails when a key is missing that the database needs, and never says that it may be taken out', async () => {
    await seal(OLD);
    const { said, written, code } = await keys(text(NEW), 'rotate');
    assert.deepEqual([written, code], [`0 data keys handed over to ${newId}\n`, 1]);
    assert.match(said.join('\n'), new RegExp(`^Failed to decrypt data: the encryption key ${oldId} `));
  });

  it('never shows a key, nor a part of what is sealed', async () => {
    const sealed = await seal(OLD);
    for (const verb of ['list', 'check', 'rotate']) {
      const shown = JSON.stringify(await keys(text(NEW, OLD), verb));
      for (const secret of [text(NEW), text(OLD), NEW.reveal().toString('hex'), ...sealed.split('.').slice(1)]) {
        assert.ok(!shown.includes(secret), verb);
      }
    }
  });

  it('rotate fails with a sentence when the database holds nonsense in place of a data key', async () => {
    await seal(OLD);
    await fresh().database.write((tx) => tx.updateTable('data_keys').set({ wrapped: 'nonsense' }).execute());
    const { said, written, code } = await keys(text(NEW, OLD), 'rotate');
    assert.match(said.join('\n'), /^Failed to decrypt data: the data key d[\da-f]{20} was changed in the database/);
    assert.deepEqual([written, code], ['', 1]);
  });
});

describe('keys with SQLite', () => {
  let folder: string;
  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'sallyport-keys-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  it('use the key in the data folder where none is given, and then the given one beside it', async () => {
    const data = join(folder, 'data');
    const { written } = await run({ SALLYPORT_DATA: data }, ['list']);
    const inFile = readFileSync(join(data, 'encryption.key'), 'utf8').trim();
    const id = keyId(new Secret(Buffer.from(inFile, 'base64')));
    assert.equal(written, `${id}  primary   0 data keys\n`);
    const both = await run({ SALLYPORT_DATA: data, ENCRYPTION_KEY: `${text(NEW)},${inFile}` }, ['list']);
    assert.equal(both.written, `${newId}  primary   0 data keys\n${id}  decrypts  0 data keys\n`);
  });

  for (const verb of ['list', 'check', 'rotate']) {
    it(`${verb} fails with a sentence when the database, the key or the configuration cannot be read`, async () => {
      writeFileSync(join(folder, 'file'), '');
      const noDatabase = await run({ SALLYPORT_DATA: join(folder, 'file') }, [verb]);
      assert.match(noDatabase.said.join('\n'), /file.* cannot be (?:made|opened|used): /);
      const noKey = await run({ SALLYPORT_DATA: folder, ENCRYPTION_KEY: text(OLD, OLD) }, [verb]);
      assert.deepEqual(noKey.said, [`The encryption key ${oldId} is given twice; keep one of them.`]);
      const noConfig = await run({ SALLYPORT_DATA: folder }, [verb], 'nonsense: 1');
      assert.equal(noConfig.said.length, 1);
      for (const { written, code } of [noDatabase, noKey, noConfig]) assert.deepEqual([written, code], ['', 1]);
    });
  }
});

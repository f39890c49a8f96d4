import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Secret } from '@sallyport/protocol/secret.ts';
import { onEachDatabase } from './databases.test-support.ts';
import { Envelope } from './envelope.ts';
import { keyId, keyRing, KeyRingError, openKeyRing } from './key-ring.ts';

const counting = (from: number) => Buffer.from(Array.from({ length: 32 }, (_, i) => from + i));
const A = new Secret(counting(0));
const B = new Secret(counting(32));

describe('the key ring', () => {
  // Both were worked out by another program.
  it('names a key by itself', () => {
    assert.deepEqual([keyId(A), keyId(B)], ['k0d6eeb8369', 'k33f5f1f230']);
  });

  it('derives, from each key, a key for another use', () => {
    const derived = keyRing([A, B])
      .derive('enrolment')
      .map((key) => key.toString('hex'));
    assert.deepEqual(derived, [
      'b82eba2b7e95dc10c97fca35add526af506536464bdf9bd69b6bd8dbccb685ea',
      '738e3ba8718d15986fbb7c03c3e675337104d5eefb5bc5f70e54160b1d9ae97b',
    ]);
    assert.notDeepEqual(keyRing([A]).derive('another'), keyRing([A]).derive('enrolment'));
  });

  it('has the first key for its primary, and finds each by its name', () => {
    const ring = keyRing([B, A]);
    assert.equal(ring.primary.id, keyId(B));
    assert.deepEqual(
      ring.keys.map(({ id }) => id),
      [keyId(B), keyId(A)],
    );
    assert.ok(ring.find(keyId(A))?.key.export().equals(A.reveal()));
    assert.equal(ring.find('k0000000000'), undefined);
  });

  it('is refused when a key is in it twice, or none', () => {
    const again = new Secret(Buffer.from(A.reveal()));
    assert.throws(() => keyRing([A, B, again]), {
      name: 'KeyRingError',
      message: 'The encryption key k0d6eeb8369 is given twice; keep one of them.',
    });
    assert.throws(() => keyRing([]), KeyRingError);
  });

  it('does not show its keys when it is printed', () => {
    const ring = keyRing([A, B]);
    const printed = `${inspect(ring, { depth: Infinity, showHidden: true })} ${JSON.stringify(ring)}`;
    assert.ok(printed.includes(keyId(A)));
    for (const form of ['hex', 'base64', 'latin1'] as const) {
      assert.ok(!printed.includes(A.reveal().toString(form)), form);
    }
    // As a Buffer is printed.
    assert.ok(!printed.includes('00 01 02 03') && !printed.includes('0,1,2,3'));
  });
});

onEachDatabase('the key ring of a broker', (fresh) => {
  let parent: string;
  let data: string;
  let file: string;
  beforeEach(() => {
    parent = mkdtempSync(join(tmpdir(), 'sallyport-ring-'));
    data = join(parent, 'deep', 'data');
    file = join(data, 'encryption.key');
  });
  afterEach(() => rmSync(parent, { recursive: true, force: true }));

  const open = () => openKeyRing({ data }, fresh().database);
  const put = (text: string) => {
    mkdirSync(data, { recursive: true });
    writeFileSync(file, text);
  };
  const isSentence = (pattern: RegExp) => (error: Error) => {
    assert.ok(error instanceof KeyRingError, inspect(error));
    assert.match(error.message, pattern);
    return true;
  };

  it('is that of the configuration where it has one, and no file is made or asked', async () => {
    const ring = await openKeyRing({ data, encryptionKeys: [B, A] }, fresh().database);
    assert.deepEqual(
      ring.keys.map(({ id }) => id),
      [keyId(B), keyId(A)],
    );
    assert.ok(!existsSync(data));
    put('nonsense');
    assert.equal((await openKeyRing({ data, encryptionKeys: [A] }, fresh().database)).primary.id, keyId(A));
  });

  it('is otherwise a key that is made at its first need, one line for its owner alone, and stays', async () => {
    const ring = await open();
    assert.equal(ring.keys.length, 1);
    assert.deepEqual([statSync(file).mode & 0o777, statSync(data).mode & 0o777], [0o600, 0o700]);
    assert.match(readFileSync(file, 'utf8'), /^[A-Za-z0-9+/]{43}=\n$/);
    assert.deepEqual(readdirSync(data), ['encryption.key']);
    assert.equal((await open()).primary.id, ring.primary.id);
    rmSync(file);
    assert.notEqual((await open()).primary.id, ring.primary.id);
  });

  it('is read from a file that was written on another system, or by hand', async () => {
    for (const text of [A.reveal().toString('base64'), `${A.reveal().toString('base64')}\r\n`]) {
      put(text);
      assert.equal((await open()).primary.id, keyId(A));
    }
  });

  it('is the same for all that make it at once', async () => {
    for (let round = 0; round < 20; round++) {
      rmSync(file, { force: true });
      // Each of them has found no file before the first makes one.
      const rings = await Promise.all(Array.from({ length: 4 }, open));
      const ids = new Set(rings.map(({ primary }) => primary.id));
      assert.deepEqual([...ids], [keyId(new Secret(Buffer.from(readFileSync(file, 'utf8'), 'base64')))]);
      assert.deepEqual(readdirSync(data), ['encryption.key']);
    }
  });

  it('is the same for processes that make it at once', async () => {
    const { place } = fresh();
    const source = `
      import { Secret } from '@sallyport/protocol/secret.ts';
      import { openDatabase } from './database.ts';
      import { openKeyRing } from './key-ring.ts';
      const place = ${JSON.stringify(place.kind === 'sqlite' ? place : { kind: 'postgres' })};
      if (place.kind === 'postgres') place.url = new Secret(process.env.DATABASE);
      const database = await openDatabase(place, () => {});
      console.log('ready');
      await new Promise((resolve) => process.stdin.once('data', resolve));
      console.log((await openKeyRing({ data: ${JSON.stringify(data)} }, database)).primary.id);
      await database.close();
      process.exit();`;
    const children = Array.from({ length: 4 }, () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
        cwd: import.meta.dirname,
        env: { ...process.env, DATABASE: place.kind === 'postgres' ? place.url.reveal() : '' },
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      return { child, lines: child.stdout.setEncoding('utf8')[Symbol.asyncIterator]() };
    });
    const nextOfEach = () => Promise.all(children.map(async ({ lines }) => String((await lines.next()).value).trim()));
    assert.deepEqual(await nextOfEach(), ['ready', 'ready', 'ready', 'ready']);
    for (const { child } of children) child.stdin.write('go\n');
    const ids = new Set(await nextOfEach());
    assert.deepEqual([...ids], [(await open()).primary.id]);
  });

  for (const [what, text] of [
    ['is empty', ''],
    ['holds words', 'correct horse battery staple\n'],
    ['holds 31 bytes', `${randomBytes(31).toString('base64')}\n`],
    ['holds 33 bytes', `${randomBytes(33).toString('base64')}\n`],
    ['holds two keys', `${A.reveal().toString('base64')}\n${B.reveal().toString('base64')}\n`],
    ['was cut short', A.reveal().toString('base64').slice(0, 20)],
  ] as const) {
    it(`is refused when the file ${what}, and the file is left as it was`, async () => {
      put(text);
      await assert.rejects(open(), (error: Error) => {
        isSentence(/^The encryption key in .*encryption\.key cannot be read: it does not hold a key of 32 bytes/)(
          error,
        );
        if (text !== '') assert.ok(!error.message.includes(text.trim().slice(0, 12)));
        return true;
      });
      assert.equal(readFileSync(file, 'utf8'), text);
    });
  }

  it('is refused when a folder stands in place of the file, or a link that leads nowhere', async () => {
    mkdirSync(file, { recursive: true });
    await assert.rejects(open(), isSentence(/cannot be read: EISDIR/));
    rmSync(file, { recursive: true });
    symlinkSync(join(parent, 'nowhere'), file);
    await assert.rejects(open(), isSentence(/encryption\.key went as soon as it was made/));
  });

  it('is refused when there is no place to keep the key', async () => {
    mkdirSync(join(parent, 'deep'));
    symlinkSync(join(parent, 'nowhere', 'else'), data);
    await assert.rejects(open(), isSentence(/^An encryption key cannot be kept in .*make the folder writable/));
    if (process.getuid?.() === 0) return; // root may write everywhere
    rmSync(data);
    mkdirSync(data);
    chmodSync(data, 0o500);
    await assert.rejects(open(), isSentence(/cannot be kept in .*EACCES/));
  });

  it('is not made anew when the file is gone and its key is needed; the key is named, and putting it back heals', async () => {
    const { database } = fresh();
    const ring = await open();
    const place = { table: 'invites', column: 'psk_sealed', row: 'a' };
    const envelope = new Envelope({ ring, now: Date.now });
    const sealed = await database.write((tx) => envelope.seal(tx, place, Buffer.from('kept')));
    renameSync(file, `${file}.away`);
    await assert.rejects(
      open(),
      isSentence(
        new RegExp(`^The file .* is gone, and the database holds what its key ${ring.primary.id} has encrypted`),
      ),
    );
    assert.deepEqual(readdirSync(data), ['encryption.key.away']);
    renameSync(`${file}.away`, file);
    const healed = new Envelope({ ring: await open(), now: Date.now });
    assert.equal((await healed.open(database.read, place, sealed)).toString(), 'kept');
  });

  it('is taken from the process that made and used it in the meantime', async () => {
    const { database } = fresh();
    const late = open(); // has found no file, and asks the database next
    put(A.reveal().toString('base64'));
    const envelope = new Envelope({ ring: keyRing([A]), now: Date.now });
    const place = { table: 'invites', column: 'psk_sealed', row: 'a' };
    const used = database.write((tx) => envelope.seal(tx, place, Buffer.from('x')));
    assert.equal((await late).primary.id, keyId(A));
    await used;
    rmSync(file);
    const later = open();
    put(A.reveal().toString('base64'));
    assert.equal((await later).primary.id, keyId(A));
  });
});

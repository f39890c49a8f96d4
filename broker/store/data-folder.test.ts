import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DataFolderError, openDataFolder, type DataFolder } from './data-folder.ts';

describe('the data folder', () => {
  let parent: string;
  let path: string;
  const opened: DataFolder[] = [];
  const open = (at = path) => {
    const folder = openDataFolder(at);
    opened.push(folder);
    return folder;
  };

  beforeEach(() => {
    parent = mkdtempSync(join(tmpdir(), 'sallyport-data-'));
    path = join(parent, 'deep', 'data');
  });
  afterEach(() => {
    for (const folder of opened.splice(0)) folder.close();
    rmSync(parent, { recursive: true });
  });

  async function holder(): Promise<ChildProcess> {
    const module = join(import.meta.dirname, 'data-folder.ts');
    const source = `import { openDataFolder } from ${JSON.stringify(module)};
      openDataFolder(${JSON.stringify(path)});
      console.log('held');
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout!, 'data');
    return child;
  }

  it('is made when it is not there, for its owner alone', () => {
    open();
    assert.equal(statSync(path).mode & 0o777, 0o700);
  });

  it('gives back what was written, and nothing for what was not', () => {
    const folder = open();
    assert.equal(folder.read('a'), undefined);
    folder.write('a', 'one');
    folder.note('b', 'two');
    assert.deepEqual([folder.read('a'), folder.read('b')], ['one', 'two']);
    folder.write('a', '');
    assert.equal(folder.read('a'), '');
    folder.remove('a');
    folder.remove('a');
    assert.equal(folder.read('a'), undefined);
  });

  it('keeps its files for its owner alone, and leaves no draft behind', () => {
    const folder = open();
    folder.write('a', 'x');
    folder.note('b', 'y');
    for (const name of ['a', 'b']) assert.equal(statSync(join(path, name)).mode & 0o777, 0o600);
    assert.deepEqual(
      readdirSync(path).filter((name) => name.endsWith('.new')),
      [],
    );
  });

  it('replaces a file in one step: who reads the old one keeps it whole, and half a draft is no file', () => {
    const folder = open();
    folder.write('a', 'old');
    const before = statSync(join(path, 'a')).ino;
    folder.write('a', 'new');
    assert.notEqual(statSync(join(path, 'a')).ino, before);
    writeFileSync(join(path, 'a.new'), 'hal');
    assert.equal(folder.read('a'), 'new');
    folder.write('a', 'newer');
    assert.equal(readFileSync(join(path, 'a'), 'utf8'), 'newer');
  });

  it('keeps the old file when the new one cannot be written', () => {
    const folder = open();
    folder.write('a', 'old');
    mkdirSync(join(path, 'a.new'));
    assert.throws(() => folder.write('a', 'new'));
    assert.equal(folder.read('a'), 'old');
  });

  it('does not take a failure to read for a file that is not there', () => {
    const folder = open();
    mkdirSync(join(path, 'a'));
    assert.throws(() => folder.read('a'), { code: 'EISDIR' });
  });

  it('is held by one at a time, and free again when it is closed', () => {
    const folder = open();
    assert.throws(
      () => open(),
      (error: Error) => {
        assert.ok(error instanceof DataFolderError);
        assert.match(
          error.message,
          /^Another broker is using the data folder .*data; stop it, or give this one a folder/,
        );
        return true;
      },
    );
    opened.splice(0);
    folder.close();
    assert.equal(open().read('a'), undefined);
  });

  it('is held by another process until that ends, however it ends', async () => {
    const child = await holder();
    try {
      assert.throws(() => open(), /Another broker is using/);
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    assert.equal(open().read('a'), undefined);
  });

  for (const [what, at] of [
    ['stands where a file is', (base: string) => join(base, 'file')],
    ['lies under a file', (base: string) => join(base, 'file', 'data')],
    ['has a name that is too long', (base: string) => join(base, 'x'.repeat(300))],
  ] as const) {
    it(`is refused with a sentence when it ${what}`, () => {
      writeFileSync(join(parent, 'file'), '');
      assert.throws(
        () => open(at(parent)),
        (error: Error) => {
          assert.ok(error instanceof DataFolderError);
          assert.match(
            error.message,
            /^The data folder .* cannot be used: .*; make it writable, or name another \(data: or/,
          );
          assert.ok(error.cause instanceof Error);
          return true;
        },
      );
    });
  }

  it('is refused when its lock is not a lock', () => {
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, 'broker.lock'), 'something else, and long enough not to be an empty database'.repeat(20));
    assert.throws(() => open(), /cannot be used: .*make it writable/);
  });
});

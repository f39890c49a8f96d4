import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  createPrivateFile,
  makePrivateFolder,
  PrivateFileError,
  readPrivateFile,
  removePrivateFile,
  writePrivateFile,
} from './files.ts';

const NOBODY = 65_534;
const isRoot = process.geteuid?.() === 0;

/** A throw with a sentence that says this. */
function saying(pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof PrivateFileError, String(error));
    assert.match(error.message, pattern);
    return true;
  };
}

describe('a private file', () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-files-'));
    path = join(folder, 'state');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is written for its owner alone, whatever the mask is, and leaves no draft', () => {
    const mask = process.umask(0);
    try {
      writePrivateFile(path, 'one');
      writePrivateFile(path, 'two');
    } finally {
      process.umask(mask);
    }
    assert.equal(readPrivateFile(path), 'two');
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(folder), ['state']);
  });

  it('is undefined where there is none', () => {
    assert.equal(readPrivateFile(path), undefined);
    assert.equal(readPrivateFile(join(folder, 'no', 'such')), undefined);
  });

  it('is made once', () => {
    assert.equal(createPrivateFile(path, 'one'), true);
    assert.equal(createPrivateFile(path, 'two'), false);
    assert.equal(readPrivateFile(path), 'one');
    assert.deepEqual(readdirSync(folder), ['state']);
  });

  it('is taken away, and taking away what is not there is no error', () => {
    writePrivateFile(path, 'one');
    removePrivateFile(path);
    removePrivateFile(path);
    assert.equal(existsSync(path), false);
  });

  const refused: [title: string, prepare: () => void, says: RegExp][] = [
    [
      'a symbolic link',
      () => {
        writeFileSync(join(folder, 'other'), 'x', { mode: 0o600 });
        symlinkSync(join(folder, 'other'), path);
      },
      /is a symbolic link; put the file itself there/,
    ],
    ['a file that the group may read', () => writeOpen(0o640), /open to other users \(mode 640\).*chmod 600/],
    ['a file that others may write', () => writeOpen(0o602), /open to other users \(mode 602\).*chmod 600/],
    ['a folder', () => mkdirSync(path, { mode: 0o700 }), /is not a plain file/],
    [
      'a pipe, without waiting for its other end',
      () => execFileSync('mkfifo', ['-m', '600', path]),
      /not a plain file/,
    ],
    ['a file without end', () => writeFileSync(path, Buffer.alloc(1_048_577), { mode: 0o600 }), /larger than any file/],
  ];
  function writeOpen(mode: number) {
    writeFileSync(path, 'x');
    chmodSync(path, mode);
  }
  for (const [title, prepare, says] of refused) {
    it(`is not read from ${title}`, () => {
      prepare();
      assert.throws(() => readPrivateFile(path), saying(says));
    });
  }

  it('is not read when it belongs to another user', () => {
    if (isRoot) {
      writeFileSync(path, 'x', { mode: 0o600 });
      chownSync(path, NOBODY, NOBODY);
    }
    // Whoever is not root cannot give a file away, and has others of root's.
    assert.throws(() => readPrivateFile(isRoot ? path : '/etc/passwd'), saying(/belongs to another user/));
  });

  it('replaces a link with itself, and what the link pointed at stays as it was', () => {
    const other = join(folder, 'other');
    writeFileSync(other, 'theirs');
    symlinkSync(other, path);
    writePrivateFile(path, 'ours');
    assert.equal(readFileSync(other, 'utf8'), 'theirs');
    assert.equal(readPrivateFile(path), 'ours');
  });

  it('does not follow a link that lies in wait where the draft goes', () => {
    const other = join(folder, 'other');
    writeFileSync(other, 'theirs');
    symlinkSync(other, `${path}.${process.pid}.new`);
    writePrivateFile(path, 'ours');
    assert.equal(readFileSync(other, 'utf8'), 'theirs');
  });

  it('is not written where others may exchange it, nor where there is no folder', () => {
    chmodSync(folder, 0o770);
    assert.throws(() => writePrivateFile(path, 'x'), saying(/open to other users \(mode 770\).*chmod 700/));
    assert.throws(() => writePrivateFile(join(folder, 'no', 'such'), 'x'), saying(/There is no folder/));
  });

  it('stays as it was when the new text cannot be put in its place', () => {
    mkdirSync(path);
    writeFileSync(join(path, 'inside'), 'x');
    assert.throws(() => writePrivateFile(path, 'x'), saying(/cannot be written/));
    assert.deepEqual(readdirSync(folder), ['state']);
  });
});

describe('a private folder', () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'sallyport-folders-'))));
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is made for its owner alone, with those above it, and may be there already', () => {
    const path = join(folder, 'a', 'b');
    makePrivateFolder(path);
    makePrivateFolder(path);
    for (const each of [path, join(folder, 'a')]) assert.equal(statSync(each).mode & 0o777, 0o700);
  });

  const refused: [title: string, prepare: (path: string) => void, says: RegExp][] = [
    ['one that others can look into', (path) => mkdirSync(path, { mode: 0o755 }), /mode 755.*chmod 700/],
    ['a symbolic link', (path) => symlinkSync(folder, path), /is a symbolic link; name the folder itself/],
    ['a file', (path) => writeFileSync(path, 'x'), /cannot be made/],
  ];
  for (const [title, prepare, says] of refused) {
    it(`is not ${title}`, () => {
      const path = join(folder, 'state');
      prepare(path);
      assert.throws(() => makePrivateFolder(path), saying(says));
    });
  }

  it('is not one of another user', () => {
    const path = join(folder, 'state');
    if (isRoot) {
      mkdirSync(path, { mode: 0o700 });
      chownSync(path, NOBODY, NOBODY);
    }
    assert.throws(() => makePrivateFolder(isRoot ? path : '/etc'), saying(/belongs to another user/));
  });
});

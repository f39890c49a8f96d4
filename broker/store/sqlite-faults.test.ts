import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout } from 'node:timers/promises';
import { DatabaseError, openDatabase } from './database.ts';
import { migrate } from './migrations.ts';
import { enrol } from './writer.test-support.ts';

const UNAVAILABLE = { code: 'store_unavailable', status: 503, headers: { 'retry-after': '2' } };
const isRoot = process.getuid?.() === 0;

describe('SQLite in trouble', () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-faults-'));
    file = join(folder, 'sallyport.db');
  });
  afterEach(() => {
    chmodSync(folder, 0o700);
    rmSync(folder, { recursive: true });
  });

  const open = (busyMs = 200) => openDatabase({ kind: 'sqlite', file }, () => {}, { busyMs });
  const refuses = (says: RegExp) =>
    assert.rejects(open(), (error) => error instanceof DatabaseError && says.test(error.message));

  async function filled(devices = 1) {
    const database = await open();
    await migrate(database, Date.now);
    for (let n = 1; n <= devices; n++) await database.write((tx) => enrol(tx, `d${n}`));
    return database;
  }

  /** Writes over a part of the file, as a broken disk does. */
  function damage(from: number, length: number) {
    const handle = openSync(file, 'r+');
    writeSync(handle, Buffer.alloc(length, 0x5a), 0, length, from);
    closeSync(handle);
  }

  /** Another process of ours, whose life ends when it can write no more. */
  function writeElsewhere(setUp: string) {
    const program = join(import.meta.dirname, 'writer.test-support.ts');
    const { stdout } = spawnSync(
      'sh',
      ['-c', `${setUp} exec "$0" "$@"`, process.execPath, program, 'c', 'sqlite', file],
      {
        encoding: 'utf8',
        timeout: 60_000,
      },
    );
    const lines = stdout.trim().split('\n');
    return { acknowledged: lines.length - 1, end: JSON.parse(lines.at(-1)!) as unknown };
  }

  describe('at the start says what is wrong, and what to do', () => {
    const RESTORE = 'keep the file, and restore a backup beside it (docs/storage.md)';

    it('with a file that is no database', async () => {
      writeFileSync(file, 'words, and more words, '.repeat(100));
      await refuses(
        /^The database .*sallyport\.db cannot be opened: file is not a database; keep the file, and restore/,
      );
    });

    it('with a file whose header is damaged', async () => {
      await (await filled()).close();
      damage(0, 16);
      await refuses(/: file is not a database; keep the file/);
    });

    it('with a file that is damaged behind its header', async () => {
      await (await filled()).close();
      damage(100, 3_000);
      await assert.rejects(open(), {
        message: `The database ${file} cannot be opened: database disk image is malformed; ${RESTORE}.`,
      });
    });

    it('with a folder where the file should be', async () => {
      mkdirSync(file);
      await refuses(/: EISDIR: .*; make the file and its folder writable, or set DATABASE_URL to a Postgres\.$/);
    });

    it('with a file that another program holds for longer than we wait', async () => {
      await (await filled()).close();
      const other = new DatabaseSync(file);
      other.exec('pragma locking_mode = exclusive; begin exclusive');
      await refuses(/: database is locked; another program holds it; end that one, or wait for it\.$/);
      other.close();
      await (await open()).close();
    });

    it('in a folder that we may not write to', () => {
      chmodSync(folder, 0o555);
      // To root everything is writable, so somebody else tries.
      const asNobody = isRoot ? 'setpriv --reuid=65534 --regid=65534 --clear-groups' : '';
      const { end } = writeElsewhere(`set -- ${asNobody} "$0" "$@"; exec "$@";`);
      assert.match(String(end), /cannot be opened: EACCES: .*; make the file and its folder writable/);
    });

    it('on a disk that is read-only', async function () {
      if (!mountHere('ro')) return this.skip();
      try {
        await refuses(/: EROFS: read-only file system, .*; make the file and its folder writable/);
      } finally {
        execFileSync('umount', [folder]);
      }
    });
  });

  it('keeps the file from others who use the machine', async () => {
    writeFileSync(file, '', { mode: 0o644 });
    const database = await filled();
    for (const name of ['', '-wal', '-shm']) assert.equal(statSync(file + name).mode & 0o777, 0o600, name);
    await database.close();
  });

  it('waits for another process that writes, without standing still, and then gives up', async () => {
    const database = await filled();
    const other = new DatabaseSync(file);
    other.exec('begin immediate');
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 5);
    await assert.rejects(
      database.write((tx) => enrol(tx, 'late')),
      UNAVAILABLE,
    );
    clearInterval(ticking);
    assert.ok(ticks >= 5, `${ticks} ticks`);
    assert.equal((await database.read.selectFrom('devices').select('id').execute()).length, 1);

    const patient = database.write((tx) => enrol(tx, 'in-time'));
    await setTimeout(50);
    other.exec('commit');
    await patient;
    other.close();
    await database.close();
  });

  it('says so when what is read is damaged, and lives on', async () => {
    await (await filled(200)).close();
    damage(4_096 * 2, statSync(file).size - 4_096 * 2);
    const database = await open();
    await assert.rejects(database.read.selectFrom('devices').selectAll().execute(), UNAVAILABLE);
    await assert.rejects(
      database.write((tx) => tx.selectFrom('devices').selectAll().execute()),
      UNAVAILABLE,
    );
    await database.close();
  });

  it('refuses to write past the limit of the system, and loses nothing that it acknowledged', async () => {
    await (await filled()).close();
    const { acknowledged, end } = writeElsewhere('ulimit -f 600;');
    assert.ok(acknowledged > 3);
    assert.deepEqual(end, { code: 'store_unavailable', readable: acknowledged + 1 });
    const database = await open();
    assert.equal((await database.read.selectFrom('devices').select('id').execute()).length, acknowledged + 1);
    await database.close();
  });

  it('refuses to write while the disk is full or read-only, reads, and writes again when it can', async function () {
    if (!mountHere('size=1m')) return this.skip();
    try {
      const database = await filled();
      const filler = join(folder, 'filler');
      writeFileSync(filler, Buffer.alloc(500_000));
      let written = 1;
      const write = () => database.write((tx) => enrol(tx, `d${++written}`));
      const fill = async () => {
        for (let n = 0; n < 10_000; n++) await write();
      };
      await assert.rejects(fill(), UNAVAILABLE);
      const readable = () => database.read.selectFrom('devices').select('id').execute();
      assert.equal((await readable()).length, written - 1);
      rmSync(filler);
      await write();
      assert.equal((await readable()).length, written - 1);
      await database.close();
    } finally {
      execFileSync('umount', [folder]);
    }
  });

  /** A small disk of its own in place of the folder, where this user may have one. */
  function mountHere(how: string): boolean {
    const { status } = isRoot ? spawnSync('mount', ['-t', 'tmpfs', '-o', how, 'none', folder]) : { status: 1 };
    if (status !== 0) console.log('      skipped: only root can mount a small disk');
    return status === 0;
  }
});

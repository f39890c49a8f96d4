import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Secret } from '@sallyport/protocol/secret.ts';
import { openLog } from './logger.ts';

function collecting(level = 'trace') {
  const lines: string[] = [];
  const { log, closeLog } = openLog({ level, destination: { write: (line) => void lines.push(line) } });
  return { log, closeLog, read: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>), lines };
}

describe('the log', () => {
  for (const [level, severity] of [
    ['trace', 'DEBUG'],
    ['debug', 'DEBUG'],
    ['info', 'INFO'],
    ['warn', 'WARNING'],
    ['error', 'ERROR'],
    ['fatal', 'CRITICAL'],
  ] as const) {
    it(`calls ${level} ${severity}`, () => {
      const { log, closeLog, read } = collecting();
      log[level]({ requestId: 'req_1' }, 'words');
      closeLog();
      const [{ time, ...rest }] = read() as [Record<string, unknown>];
      assert.deepEqual(rest, { severity, requestId: 'req_1', message: 'words' });
      assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    });
  }

  it('leaves out what is less important than its level', () => {
    const { log, closeLog, read } = collecting('warn');
    log.info('quiet');
    log.warn('loud');
    closeLog();
    assert.deepEqual(
      read().map(({ message }) => message),
      ['loud'],
    );
  });

  it('is one line for each entry, whatever is in it', () => {
    const { log, closeLog, lines } = collecting();
    log.info({ path: '/a\n{"severity":"ERROR"}\r\n' }, 'two\nlines');
    closeLog();
    assert.equal(lines.length, 1);
    assert.equal(lines[0]!.indexOf('\n'), lines[0]!.length - 1);
  });

  it('tells the cause of an error, and what lies beneath it', () => {
    const { log, closeLog, lines } = collecting();
    log.error({ cause: new Error('no answer', { cause: new TypeError('no route') }) }, 'words');
    closeLog();
    assert.match(lines[0]!, /no answer/);
    assert.match(lines[0]!, /no route/);
    assert.match(lines[0]!, /logger\.test\.ts/);
  });

  it('does not print a secret', () => {
    const { log, closeLog, lines } = collecting();
    log.info({ secret: new Secret('hunter2'), inner: { key: new Secret(Buffer.from('hunter2')) } }, 'words');
    closeLog();
    assert.doesNotMatch(lines[0]!, /hunter2|aHVudGVyMg/);
  });

  describe('in a file', () => {
    let folder: string;
    beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'sallyport-log-'))));
    afterEach(() => rmSync(folder, { recursive: true }));

    it('is for its owner alone, is added to, and whole when it is closed', () => {
      const file = join(folder, 'broker.log');
      for (const word of ['one', 'two']) {
        const { log, closeLog } = openLog({ level: 'info', file });
        log.info(word);
        closeLog();
      }
      assert.equal(statSync(file).mode & 0o777, 0o600);
      const messages = readFileSync(file, 'utf8').trimEnd().split('\n');
      assert.deepEqual(
        messages.map((line) => JSON.parse(line).message),
        ['one', 'two'],
      );
    });

    it('is written in batches, a quarter of a second late at most', async () => {
      const file = join(folder, 'broker.log');
      const { log, closeLog } = openLog({ level: 'info', file });
      log.info('words');
      assert.equal(readFileSync(file, 'utf8'), '');
      for (let waited = 0; waited < 100 && readFileSync(file, 'utf8') === ''; waited++) await setTimeout(20);
      assert.match(readFileSync(file, 'utf8'), /"words"/);
      closeLog();
    });

    it('cannot be opened where there is no folder', () => {
      const file = join(folder, 'none', 'broker.log');
      assert.throws(() => openLog({ level: 'info', file }), { code: 'ENOENT' });
      assert.ok(!existsSync(file));
    });
  });
});

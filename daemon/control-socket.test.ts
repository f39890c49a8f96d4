import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AlreadyRunning, askDaemon, controlPathOf, openControlSocket, VerbRefused } from './control-socket.ts';

describe('the control socket', () => {
  let folder: string;
  let path: string;
  let open: { close: () => Promise<void> }[];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-control-'));
    path = join(folder, 'control.sock');
    open = [];
  });
  afterEach(async () => {
    for (const one of open) await one.close();
    rmSync(folder, { recursive: true });
  });

  async function daemon(verbs: Parameters<typeof openControlSocket>[1] = {}) {
    const socket = await openControlSocket(path, verbs);
    open.push(socket);
    return socket;
  }

  it('asks the running daemon by name, and gives back what it says', async () => {
    await daemon({ add: async ({ a, b }) => Number(a) + Number(b), nothing: async () => undefined });
    assert.equal(await askDaemon(path, 'add', { a: 1, b: 2 }), 3);
    assert.equal(await askDaemon(path, 'nothing'), null);
  });

  it('is for its owner alone', async () => {
    await daemon();
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  it('passes on the sentence of what could not be done, and its exit code', async () => {
    await daemon({ fail: () => Promise.reject(Object.assign(new Error('Not today.'), { exitCode: 3 })) });
    await assert.rejects(askDaemon(path, 'fail'), (error) => {
      assert.ok(error instanceof VerbRefused);
      assert.deepEqual([error.message, error.exitCode], ['Not today.', 3]);
      return true;
    });
  });

  for (const verb of ['unknown', 'constructor', '__proto__', '']) {
    it(`knows no verb ${JSON.stringify(verb)}`, async () => {
      await daemon({});
      await assert.rejects(askDaemon(path, verb), /of another version/);
    });
  }

  it('refuses more than anyone has to ask', async () => {
    await daemon({ take: async () => 1 });
    await assert.rejects(askDaemon(path, 'take', { x: 'x'.repeat(70_000) }));
    assert.equal(await askDaemon(path, 'take', { x: 'x' }), 1);
  });

  it('says nothing where no daemon runs, and where one was killed', async () => {
    assert.equal(await askDaemon(path, 'status'), undefined);
    // A socket that nobody listens to any more, as a kill leaves it.
    const dead = createServer().listen(path);
    await new Promise((resolve) => dead.once('listening', resolve));
    await new Promise<void>((resolve) => {
      dead.close(() => resolve());
    });
    assert.equal(await askDaemon(path, 'status'), undefined);
    await daemon({ status: async () => 'runs' });
    assert.equal(await askDaemon(path, 'status'), 'runs');
  });

  it('belongs to one daemon at a time', async () => {
    await daemon();
    await assert.rejects(() => daemon(), AlreadyRunning);
  });

  it('has a short path however long the folder is', () => {
    const short = controlPathOf(`/${'a'.repeat(200)}`, 'linux');
    assert.ok(Buffer.byteLength(short) < 108, short);
    assert.equal(controlPathOf('/home/one', 'linux'), '/home/one/control.sock');
    assert.match(controlPathOf('C:\\x', 'win32'), /^\\\\\.\\pipe\\sallyport-[0-9a-f]{16}$/);
    assert.notEqual(controlPathOf('C:\\x', 'win32'), controlPathOf('C:\\y', 'win32'));
  });
});

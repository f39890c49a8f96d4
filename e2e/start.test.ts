import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

// The house as a fresh copy has it, but for what has been installed and built already.
function copyHouse(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-'));
  for (const name of ['start.ts', 'package.json']) copyFileSync(name, join(folder, name));
  for (const name of ['broker', 'daemon', 'protocol', 'node_modules']) symlinkSync(resolve(name), join(folder, name));
  return folder;
}

describe('npm start', function () {
  this.timeout(60_000);
  const folder = copyHouse();
  const port = 20_000 + (process.pid % 20_000);
  const env = { ...process.env, PORT: String(port), SALLYPORT_PORT: String(port + 20_000), OPENAI_API_KEY: '' };
  after(() => rmSync(folder, { recursive: true, force: true }));

  async function start() {
    const child = spawn(process.execPath, ['start.ts'], { cwd: folder, env, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => void (said += text));
    for (let tries = 0; tries < 300 && !said.includes('Stop ') && child.exitCode === null; tries++) {
      await new Promise((done) => setTimeout(done, 50));
    }
    return {
      child,
      said: () => said,
      async stop(signal: 'SIGINT' | 'SIGKILL' = 'SIGINT') {
        child.kill(signal);
        // As a terminal and npm together do it.
        if (signal === 'SIGINT') child.kill(signal);
        const [code] = (await once(child, 'exit')) as [number | null];
        return code;
      },
    };
  }

  /** The command that was printed under this name, as a person pastes it. */
  const printed = (said: string, beginning: string) =>
    said
      .split('\n')
      .find((line) => line.trim().startsWith(beginning))!
      .trim();
  const paste = (line: string, more: Record<string, string> = {}) =>
    run('sh', ['-c', line], { cwd: folder, env: { ...env, ...more } });

  const call = (...text: string[]) => {
    const main = join(folder, 'broker', 'main.ts');
    const config = join(folder, '.sallyport', 'sallyport.yaml');
    return run(process.execPath, [main, 'call', '--config', config, ...text], { cwd: folder, env });
  };

  it('makes what it needs, opens both doors, and prints commands that get an answer', async () => {
    const began = performance.now();
    const broker = await start();
    try {
      assert.match(broker.said(), /Made \.sallyport\/sallyport\.yaml/);
      assert.match(broker.said(), new RegExp(`Broker {9}http://127.0.0.1:${env.PORT}`));
      assert.ok(performance.now() - began < 8000);
      const streamed = await paste(printed(broker.said(), 'curl '));
      assert.match(streamed.stdout, /"content":"hello"[^]*data: \[DONE\]/);
      const [, base, token] = /OPENAI_BASE_URL=(\S+) OPENAI_API_KEY=(\S+)/.exec(broker.said())!;
      const variables = { OPENAI_BASE_URL: base!, OPENAI_API_KEY: token! };
      const answered = await paste(printed(broker.said(), 'node --input-type'), variables);
      assert.equal(answered.stdout, 'This is the built-in echo, not an AI model. You said: hello\n');
      assert.equal(statSync(join(folder, '.sallyport', 'desktop')).mode & 0o777, 0o700);
      assert.equal(statSync(join(folder, '.sallyport', 'sallyport.yaml')).mode & 0o777, 0o600);
      const { stdout } = await call('hello');
      assert.equal(stdout, 'This is the built-in echo, not an AI model. You said: hello\n');
      const again = await start();
      assert.match(again.said(), /Another broker is using the data folder/);
      assert.equal(again.child.exitCode, 1);
    } finally {
      assert.equal(await broker.stop(), 0);
    }
  });

  it('is back at once after a clean stop', async () => {
    const began = performance.now();
    const broker = await start();
    assert.doesNotMatch(broker.said(), /Made|waiting/);
    assert.ok(performance.now() - began < 5000);
    assert.match((await call('again')).stdout, /You said: again/);
    await broker.stop('SIGKILL');
  });

  it('says after a crash why it waits, and for how long', async () => {
    const broker = await start();
    assert.match(broker.said(), /did not stop cleanly; waiting [4-7] s/);
    assert.match((await call('once more')).stdout, /You said: once more/);
    assert.equal(await broker.stop(), 0);
  });

  it('leaves no secret in its log', () => {
    const secret = /hex:([0-9a-f]{64})/.exec(readFileSync(join(folder, '.sallyport', 'sallyport.yaml'), 'utf8'))?.[1];
    assert.ok(secret);
    const log = ['broker.log', 'daemon.log']
      .map((name) => readFileSync(join(folder, '.sallyport', name), 'utf8'))
      .join('');
    assert.doesNotMatch(log, /spl_[\w-]{20}/);
    assert.ok(log.includes('"caller":"desktop"'));
    assert.ok(!log.includes(secret));
  });
});

describe('the command line', () => {
  const sallyport = (...args: string[]) => run('bin/sallyport-broker', args, { encoding: 'utf8' });

  it('tells its version and explains itself', async () => {
    assert.match((await sallyport('--version')).stdout, /^\d+\.\d+\.\d+\n$/);
    const { stdout } = await sallyport('--help');
    for (const verb of ['serve', 'call', 'config']) assert.match(stdout, new RegExp(`^ {2}${verb}\\b`, 'm'));
  });

  it('checks a configuration, and names what is wrong with it', async () => {
    const wrong = sallyport('config', 'check', '--config', 'nowhere.yaml');
    await assert.rejects(wrong, (error: Error & { code?: number; stderr?: string }) => {
      assert.equal(error.code, 1);
      assert.match(error.stderr ?? '', /There is no such file/);
      return true;
    });
  });
});

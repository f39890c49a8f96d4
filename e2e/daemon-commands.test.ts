import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { invite } from '../broker/control/invites.ts';
import { openWorld, type World } from './world.ts';

type Done = { code: number | null; stdout: string; stderr: string };

describe('sallyport, the command', function () {
  this.timeout(60_000);
  let world: World;
  let home: string;
  let port: number;
  const running: ChildProcess[] = [];

  before(async () => {
    world = await openWorld();
    port = await freePort();
  });
  beforeEach(() => (home = mkdtempSync(join(tmpdir(), 'sallyport-cli-'))));
  afterEach(async () => {
    for (const child of running.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    rmSync(home, { recursive: true });
  });
  after(() => world?.close());

  const environment = () => ({
    ...process.env,
    SALLYPORT_HOME: home,
    SALLYPORT_PORT: String(port),
    SALLYPORT_KEYCHAIN: 'file',
    SALLYPORT_INSECURE_KEY_FILE: 'true',
  });

  async function sallyport(words: string[], { input = '', env = {} } = {}): Promise<Done> {
    const child = spawn(process.execPath, ['daemon/main.ts', ...words], { env: { ...environment(), ...env } });
    const done = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (done.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (done.stderr += text));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, ...done };
  }

  async function run(): Promise<ChildProcess> {
    const child = spawn(process.execPath, ['daemon/main.ts', 'run'], {
      env: environment(),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    running.push(child);
    await new Promise<void>((resolve, reject) => {
      child.stderr!.on('data', (text: Buffer) => text.includes('"listening"') && resolve());
      child.once('exit', (code) => reject(new Error(`it ended with ${code}`)));
    });
    return child;
  }

  const newCode = () =>
    world
      .withRecords((records) => invite(records, { products: ['product-a'], validMs: 600_000 }, { actor: 'operator' }))
      .then(({ code }) => code);
  const status = async () => {
    const { code, stdout } = await sallyport(['status', '--json']);
    return { exit: code, ...(JSON.parse(stdout) as { state: string; running: boolean; keyid: string | null }) };
  };

  it('goes from nothing to an answer: status, enrol, run, apps, rotate, forget', async () => {
    assert.deepEqual(await status().then(({ exit, state, running: runs }) => [exit, state, runs]), [3, 'none', false]);
    const enrolled = await sallyport(['enroll', world.base], { input: `${await newCode()}\n` });
    assert.equal(enrolled.code, 0, enrolled.stderr);
    assert.match(enrolled.stderr, /Enrolled at http.* for product-a/);
    assert.deepEqual(await status().then(({ exit, state, running: runs }) => [exit, state, runs]), [
      4,
      'active',
      false,
    ]);

    await run();
    const before = await status();
    assert.deepEqual([before.exit, before.state, before.running], [0, 'active', true]);
    const { token } = JSON.parse((await sallyport(['apps', 'add', 'editor', '--json'])).stdout) as { token: string };
    const answer = await fetch(`http://localhost:${port}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'hello' }] }),
    });
    assert.equal(answer.status, 200);
    assert.equal(JSON.parse(readFileSync(join(home, 'daemon.json'), 'utf8')).port, port);

    assert.match((await sallyport(['apps', 'list'])).stdout, /^editor {2}since /);
    assert.match((await sallyport(['rotate'])).stderr, /The new key is spk_/);
    assert.notEqual((await status()).keyid, before.keyid);
    assert.equal((await sallyport(['apps', 'remove', 'editor'])).code, 0);
    assert.equal((await sallyport(['forget'])).code, 2, 'not without --yes');
    assert.equal((await sallyport(['forget', '--yes'])).code, 0);
    assert.deepEqual(await status().then(({ exit, state, running: runs }) => [exit, state, runs]), [3, 'none', true]);
  });

  it('does without the daemon what it would do with it', async () => {
    assert.equal((await sallyport(['enroll', world.base, await newCode(), '--algorithm', 'ed25519'])).code, 0);
    const before = await status();
    assert.match((await sallyport(['apps', 'add', 'editor'])).stdout, /^spl_[\w-]{43}\n$/);
    assert.equal((await sallyport(['rotate'])).code, 0);
    assert.notEqual((await status()).keyid, before.keyid);
  });

  it('has one daemon for a folder, and says who holds a port', async () => {
    await run();
    const again = await sallyport(['run']);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /Another daemon runs for this folder already/);
    const elsewhere = await sallyport(['run'], { env: { SALLYPORT_HOME: join(home, 'other') } });
    assert.equal(elsewhere.code, 78);
    assert.match(elsewhere.stderr, new RegExp(`Port ${port} .* is held by`));
  });

  it('leaves nothing behind that keeps the next one from starting, even when it was killed', async () => {
    const first = await run();
    first.kill('SIGKILL');
    await once(first, 'exit');
    const second = await run();
    second.kill('SIGTERM');
    const [code] = (await once(second, 'exit')) as [number];
    assert.equal(code, 0);
  });

  for (const [what, words, code, says] of [
    ['a code that is none', () => ['enroll', world.base, 'nonsense'], 2, /not an enrolment code/],
    ['a code nobody made', () => ['enroll', world.base, 'ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ'], 1, /no open invitation/],
    ['an address that is none', () => ['enroll', 'broker', 'ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ'], 1, /not a URL/],
    [
      'plain http to elsewhere',
      () => ['enroll', 'http://broker.example.com', 'ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ'],
      1,
      /use https/,
    ],
    [
      'a broker that is not there',
      () => ['enroll', 'http://127.0.0.1:9', 'ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ'],
      1,
      /127\.0\.0\.1:9/,
    ],
    [
      'an algorithm there is not',
      () => ['enroll', world.base, 'x', '--algorithm', 'none'],
      2,
      /hmac-sha256 or ed25519/,
    ],
    ['a rotation of nothing', () => ['rotate'], 3, /not enrolled/],
    ['an app without a name', () => ['apps', 'add', ''], 1, /A name is/],
    ['an app there is not', () => ['apps', 'remove', 'x'], 1, /There is no app x/],
  ] as const) {
    it(`refuses ${what}, with exit code ${code} and a sentence`, async () => {
      const done = await sallyport([...words()]);
      assert.equal(done.code, code, done.stderr);
      assert.match(done.stderr, says);
      assert.doesNotMatch(done.stderr, /\n\s+at /, 'and no stack');
    });
  }

  it('tells every mistake in its settings, and runs nothing', async () => {
    const done = await sallyport(['status'], { env: { SALLYPORT_PORT: 'x', SALLYPORT_KEYCHAIN: 'y' } });
    assert.equal(done.code, 1);
    assert.equal(done.stderr.trim().split('\n').length, 2);
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

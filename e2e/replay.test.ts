import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SNAPSHOT } from '../broker/auth/replay-handover.ts';
import { openWorld, SECRETS, type Prepared } from './world.ts';

const isFull = process.env['PROVE'] === 'full';

describe('a signature', function () {
  this.timeout(600_000);

  it(`is taken once, however many connections race with it`, async () => {
    const [connections, nonces] = isFull ? [64, 500] : [64, 160];
    const world = await openWorld();
    const agent = new Agent({ keepAlive: true, maxSockets: connections });
    try {
      let replays = 0;
      for (let i = 0; i < nonces; i++) {
        const one = world.prepare({ method: 'GET', path: '/v1/models' });
        const answers = await Promise.all(Array.from({ length: connections }, () => world.deliver(one, agent)));
        const accepted = answers.filter(({ status }) => status === 200);
        const refused = answers.filter(({ error }) => error.code === 'signature_replayed');
        assert.equal(accepted.length, 1);
        assert.equal(refused.length, connections - 1);
        replays += refused.length;
      }
      console.log(`      ${nonces} nonces, ${replays} replays over ${connections} connections: each nonce once`);
      assert.ok(replays >= 10_000);
    } finally {
      agent.destroy();
      await world.close();
    }
  });

  // The broker's clock after the restart, against the clock before it.
  for (const drift of [-30, -5, 0, 5, 30]) {
    for (const end of ['clean stop', 'crash'] as const) {
      it(`is not taken again after a ${end}, with the clock ${drift} s away from where it was`, async () => {
        await restart({ drift, end });
      });
    }
  }
});

// Used signatures of every age and from signers whose own clocks differ, then a restart, then every one of them again in
// every second until the last has long run out.
async function restart({ drift, end }: { drift: number; end: 'clean stop' | 'crash' }): Promise<void> {
  let nowMs = 1_800_000_000_000;
  const now = () => nowMs;
  const authority = 'broker.example.com';
  const first = await openWorld({ now });
  const used: Prepared[] = [];
  for (let i = 0; i < 70; i++) {
    for (const skew of [-30, 0, 5]) {
      const created = Math.floor(nowMs / 1000) + skew;
      const one = first.prepare({ method: 'GET', path: '/v1/models', authority, moment: { created } });
      assert.equal((await first.deliver(one)).status, 200);
      used.push(one);
    }
    nowMs += 1000;
  }
  const lastSeen = join(first.folder, 'data', 'last-seen');
  writeFileSync(lastSeen, String(Math.floor(nowMs / 1000) - 1));
  const seen = readFileSync(lastSeen);
  await first.close({ keep: true });
  if (end === 'crash') {
    // What a killed process leaves: no list, and the second in which it was last seen alive.
    rmSync(join(first.folder, 'data', SNAPSHOT));
    writeFileSync(lastSeen, seen);
  }

  nowMs += drift * 1000;
  const second = await openWorld({ now, folder: first.folder });
  try {
    let isReadyAfter: number | undefined;
    for (let second_ = 0; second_ < 110; second_++) {
      const answers = await Promise.all(used.map((one) => second.deliver(one)));
      const accepted = answers.filter(({ status }) => status === 200).length;
      assert.equal(accepted, 0, `${accepted} taken again ${second_} s after the restart`);
      const fresh = second.prepare({ method: 'GET', path: '/v1/models', authority });
      const { status } = await second.deliver(fresh);
      const { status: ready } = await second.ask({ path: '/ready', signed: false });
      assert.equal(status === 200, ready === 200, 'a broker that is ready takes what is signed now');
      if (status === 200) isReadyAfter ??= second_;
      nowMs += 1000;
    }
    assert.ok(isReadyAfter !== undefined);
    // A clean stop costs nothing; a crash costs the fence, and no more than the clock has been set back besides.
    assert.ok(isReadyAfter <= (end === 'clean stop' ? 0 : 7 + Math.max(0, -drift)), `ready after ${isReadyAfter} s`);
  } finally {
    await second.close();
  }
}

describe('a broker that is killed', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-'));
  const config = join(folder, 'sallyport.yaml');
  let child: ChildProcess | undefined;
  after(() => {
    child?.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  async function start(port: number): Promise<void> {
    writeFileSync(
      config,
      `public_url: http://127.0.0.1:${port}
public_authorities: [broker.example.com]
listen: { port: ${port} }
data: ./data
log: { level: warn }
providers: { echo: { kind: echo, models: [echo] } }
products: { product-a: { models: [echo] } }
clients: { desktop: { secret: "${SECRETS.desktop}", products: [product-a] } }
`,
    );
    child = spawn(process.execPath, ['broker/main.ts', 'serve', '--config', config], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
  }

  it('waits out its fence, takes nothing again, and then takes what is new', async () => {
    const world = await openWorld();
    const { port } = world;
    const one = world.prepare({ method: 'GET', path: '/v1/models', authority: 'broker.example.com' });
    await world.close();

    await start(port);
    const until = async (wanted: number, path: string) => {
      for (let tries = 0; tries < 200; tries++) {
        const answer = await world.ask({ path, signed: false }).catch(() => undefined);
        if (answer?.status === wanted) return answer;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      throw new Error(`${path} never answered ${wanted}`);
    };
    const notReady = await until(503, '/ready');
    assert.match(notReady.text, /waiting until no signature from before the start/);
    assert.ok(Number(notReady.headers['retry-after']) <= 6);
    await until(200, '/liveness');
    const early = await world.deliver(one);
    assert.deepEqual([early.status, early.error.code], [503, 'not_ready']);

    await until(200, '/ready');
    const mine = world.prepare({ method: 'GET', path: '/v1/models' });
    assert.equal((await world.deliver(mine)).status, 200);
    child?.kill('SIGKILL');
    await once(child!, 'exit');

    await start(port);
    await until(200, '/ready');
    const again = await world.deliver(mine);
    assert.deepEqual([again.status, again.error.code], [401, 'signature_window']);
    assert.ok(Math.abs(Number(again.headers['x-sallyport-time']) - Date.now()) < 5000);
    assert.equal((await world.ask({ method: 'GET', path: '/v1/models' })).status, 200);
  });
});

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError, RateLimitError } from 'openai';
import { invite } from '../broker/control/invites.ts';
import { revokeDevice } from '../broker/control/devices.ts';
import type { DaemonConfig } from '../daemon/config.ts';
import { askDaemon, controlPathOf } from '../daemon/control-socket.ts';
import { openDaemon, type Daemon, type Status } from '../daemon/daemon.ts';
import { openLog } from '../daemon/log.ts';
import type { World as Desktop } from '../daemon/self.ts';
import { openWorld, VENDOR_KEY, type World } from './world.ts';

// Both programs, and between them nothing but a socket: an app on one side, a pretend vendor on the other.

const BY = { actor: 'operator' };

type Desk = {
  home: string;
  daemon: Daemon;
  log: string[];
  token: string;
  ask: (verb: string, asked?: object) => Promise<unknown>;
  close: () => Promise<void>;
};

function settings(home: string): { config: DaemonConfig; world: Desktop } {
  return {
    config: {
      home,
      port: 0,
      keychain: 'file',
      insecureKeyFile: true,
      origins: [],
      proxy: false,
      extraCaFiles: [],
      systemCas: false,
    },
    world: {
      platform: process.platform,
      env: {},
      hostname: 'Desk by the window',
      system: 'linux 6.18',
      now: Date.now,
      elapsedMs: () => performance.now(),
      uptimeSeconds: () => 1000,
      random: randomBytes,
      readFile: (path) => readFileSync(path, 'utf8'),
      load: (name) => import(name),
    },
  };
}

async function openDesk(home = mkdtempSync(join(tmpdir(), 'sallyport-desk-'))): Promise<Desk> {
  const log: string[] = [];
  const { config, world } = settings(home);
  const daemon = await openDaemon({
    config,
    world,
    log: openLog((line) => log.push(line), Date.now),
    pid: process.pid,
  });
  const ask = (verb: string, asked: object = {}) => askDaemon(controlPathOf(home, process.platform), verb, asked);
  const { token } = (await ask('apps-add', { name: `app-${randomBytes(4).toString('hex')}` })) as { token: string };
  return { home, daemon, log, token, ask, close: () => daemon.stop() };
}

describe('both doors', function () {
  this.timeout(60_000);
  let world: World;
  let desk: Desk;
  const homes: string[] = [];

  const codeFor = (...products: string[]) =>
    world.withRecords((records) => invite(records, { products, validMs: 600_000 }, BY)).then(({ code }) => code);
  const newDesk = async (...products: string[]) => {
    const one = await openDesk();
    homes.push(one.home);
    if (products.length > 0) await one.ask('enrol', { url: world.base, code: await codeFor(...products) });
    return one;
  };
  const client = ({ daemon, token }: Desk, more: object = {}) =>
    new OpenAI({ baseURL: `http://localhost:${daemon.port}/v1`, apiKey: token, maxRetries: 0, ...more });
  const raw = ({ daemon, token }: Desk, path: string, { method = 'POST', headers = {}, body = '' } = {}) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const fields = {
        authorization: `Bearer ${token}`,
        ...(body !== '' && { 'content-type': 'application/json' }),
        ...headers,
      };
      const outgoing = request(
        { host: '127.0.0.1', port: daemon.port, method, path, headers: fields, agent: false },
        (answer) => {
          answer
            .toArray()
            .then((pieces) => resolve({ status: answer.statusCode!, text: Buffer.concat(pieces).toString() }), reject);
        },
      );
      outgoing.on('error', reject);
      outgoing.end(body);
    });

  before(async () => {
    world = await openWorld();
    desk = await newDesk('product-a');
  });
  after(async () => {
    await desk?.close();
    await world?.close();
    for (const home of homes) rmSync(home, { recursive: true, force: true });
  });

  const HELLO = { model: 'gpt-4o', messages: [{ role: 'user', content: 'hello' }] } as const;

  it('answer OpenAI’s client that knows an address and a local token: chat, stream, embeddings, models', async () => {
    const openai = client(desk);
    const chat = await openai.chat.completions.create(HELLO as never);
    assert.equal(chat.choices[0]!.message.content, 'Good day');
    let streamed = '';
    for await (const { choices } of (await openai.chat.completions.create({
      ...HELLO,
      stream: true,
    } as never)) as never as AsyncIterable<{
      choices: { delta: { content?: string } }[];
    }>)
      streamed += choices[0]?.delta.content ?? '';
    assert.equal(streamed, 'Good day');
    const { data } = await openai.embeddings.create({ model: 'gpt-4o', input: 'hello', encoding_format: 'float' });
    assert.deepEqual(data[0]!.embedding, [0.5, -0.5]);
    const models = await openai.models.list();
    assert.deepEqual(models.data.map(({ id }) => id).toSorted(), ['echo', 'gpt-4o', 'gpt-4o-mini']);
  });

  it('give it errors of the right class, each with what to do', async () => {
    const openai = client(desk);
    await assert.rejects(() => openai.chat.completions.create({ ...HELLO, model: 'nope' } as never), BadRequestError);
    await assert.rejects(() => client(desk, { apiKey: 'spl_wrong' }).models.list(), AuthenticationError);
    await assert.rejects(
      () =>
        new OpenAI({
          baseURL: `http://localhost:${desk.daemon.port}/elsewhere`,
          apiKey: desk.token,
          maxRetries: 0,
        }).models.list(),
      NotFoundError,
    );
    const narrow = await newDesk('limited');
    try {
      const asked = () => client(narrow).chat.completions.create({ ...HELLO, model: 'echo' } as never);
      await assert.rejects(async () => {
        for (let i = 0; i < 5; i++) await asked();
      }, RateLimitError);
    } finally {
      await narrow.close();
    }
  });

  it('show the vendor its own key and nothing of the app, the desktop or the device', async () => {
    world.vendor.requests.length = 0;
    await raw(desk, '/v1/chat/completions', {
      body: JSON.stringify(HELLO),
      headers: { 'x-sallyport-product': 'product-b', signature: 'sp=:AAAA:', cookie: 'a=b', 'x-api-key': 'sk-app' },
    });
    const [seen] = world.vendor.requests;
    assert.equal(seen!.headers.authorization, `Bearer ${VENDOR_KEY}`);
    assert.ok(!JSON.stringify(seen).includes(desk.token));
    for (const name of [
      'signature',
      'signature-input',
      'cookie',
      'x-api-key',
      'x-sallyport-product',
      'x-sallyport-install',
    ]) {
      assert.equal(seen!.headers[name], undefined, name);
    }
  });

  for (const [what, path, method] of [
    ['rotate the key', '/v1/keys/rotate', 'POST'],
    ['ask as the daemon', '/v1/whoami', 'GET'],
    ['mint a Google token', '/token', 'POST'],
    ['enrol', '/v1/enroll', 'POST'],
    ['reach the broker’s readiness', '/ready', 'GET'],
    ['reach a path by another spelling', '/v1/chat/../keys/rotate', 'POST'],
    ['reach one in disguise', '/v1/%6beys/rotate', 'POST'],
  ] as const) {
    it(`do not let an app ${what}`, async () => {
      const { status } = await raw(desk, path, { method, body: method === 'POST' ? '{}' : '' });
      assert.ok([400, 404].includes(status), String(status));
    });
  }

  it('do not let an app choose a product that its device does not have', async () => {
    const { status, text } = await raw(desk, '/p/product-b/v1/chat/completions', {
      body: JSON.stringify({ ...HELLO, model: 'echo' }),
    });
    assert.deepEqual([status, JSON.parse(text).error.code], [404, 'product_unknown']);
  });

  it('tell an app what is missing, before the desktop is enrolled, and work once it is, without a restart', async () => {
    const fresh = await newDesk();
    try {
      const before = await raw(fresh, '/v1/chat/completions', { body: JSON.stringify(HELLO) });
      assert.equal(before.status, 503);
      assert.match(before.text, /sallyport enroll/);
      await fresh.ask('enrol', { url: world.base, code: await codeFor('product-a') });
      assert.equal((await raw(fresh, '/v1/chat/completions', { body: JSON.stringify(HELLO) })).status, 200);
      await fresh.ask('forget');
      assert.equal((await raw(fresh, '/v1/chat/completions', { body: JSON.stringify(HELLO) })).status, 503);
    } finally {
      await fresh.close();
    }
  });

  it('go on over a restart of the daemon, and over a rotation, with no request refused', async () => {
    const first = await newDesk('product-a');
    const { home, token } = first;
    const before = (await first.ask('status')) as Status;
    const work = { isOver: false };
    const statuses: number[] = [];
    const load = (async () => {
      while (!work.isOver)
        statuses.push((await raw(first, '/v1/chat/completions', { body: JSON.stringify(HELLO) })).status);
    })();
    for (let i = 0; i < 3; i++) {
      await first.ask('rotate').catch((error: Error) => assert.match(error.message, /two live keys/));
    }
    work.isOver = true;
    await load;
    assert.deepEqual([...new Set(statuses)], [200]);
    await first.close();
    const second = await openDesk(home);
    try {
      const after = (await second.ask('status')) as Status;
      assert.deepEqual([after.state, after.device], ['active', before.device]);
      assert.notEqual(after.keyid, before.keyid);
      assert.equal((await raw({ ...second, token }, '/v1/models', { method: 'GET' })).status, 200);
    } finally {
      await second.close();
    }
  });

  it('shut out a device that was revoked, and the app is told', async () => {
    const lost = await newDesk('product-a');
    try {
      const { device } = (await lost.ask('status')) as Status;
      await world.withRecords((records) => revokeDevice(records, device!, 'lost', BY));
      await new Promise((resolve) => setTimeout(resolve, 2300));
      const { status, text } = await raw(lost, '/v1/chat/completions', { body: JSON.stringify(HELLO) });
      assert.deepEqual([status, JSON.parse(text).error.code], [401, 'device_revoked']);
    } finally {
      await lost.close();
    }
  });

  it('leave no token and no key in a log or in a file that is not sealed', async () => {
    await client(desk).chat.completions.create(HELLO as never);
    const text = [desk.log.join(''), world.log.join('')].join('');
    assert.ok(!text.includes(desk.token));
    const files = readdirSync(desk.home, { recursive: true, encoding: 'utf8' })
      .map((name) => join(desk.home, name))
      .filter((path) => statSync(path).isFile());
    assert.ok(files.length >= 4);
    for (const path of files) {
      assert.equal(statSync(path).mode & 0o077, 0, path);
      assert.ok(!readFileSync(path, 'utf8').includes(desk.token), path);
    }
  });

  it('have one daemon for one folder', async () => {
    const { config, world: around } = settings(desk.home);
    await assert.rejects(
      () => openDaemon({ config, world: around, log: openLog(() => {}, Date.now), pid: 1 }),
      /Another daemon runs for this folder already/,
    );
  });
});

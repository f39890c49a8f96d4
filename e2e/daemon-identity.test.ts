import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listDevices, retireKeys, revokeDevice } from '../broker/control/devices.ts';
import { invite } from '../broker/control/invites.ts';
import { newAgreementKey } from '@sallyport/protocol/enrolment.ts';
import type { Algorithm } from '@sallyport/protocol/keys.ts';
import type { OpenIdentity } from '../daemon/identity.ts';
import { itemsOf, secretsOf, startDaemon, stateTextOf, uplinkOf, type Desk } from './desk.ts';
import { openFaultProxy, type FaultProxy } from './fault-proxy.ts';
import { CHAT, openWorld, type World } from './world.ts';

const BY = { actor: 'operator' };
const ALGORITHMS = ['hmac-sha256', 'ed25519'] as const;

class Crash extends Error {}

describe('the identity of a desktop', function () {
  this.timeout(120_000);
  let world: World;
  let proxy: FaultProxy;
  const folders: string[] = [];
  const closing: (() => void)[] = [];
  before(async () => {
    world = await openWorld({ database: 'sqlite' });
    proxy = await openFaultProxy(world.port);
  });
  after(async () => {
    await proxy?.close();
    await world?.close();
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });
  afterEach(() => {
    proxy.plan(undefined);
    // A test that fails before its end must not leave them open.
    for (const close of closing.splice(0)) close();
  });

  function newDesk(more: Partial<Desk> = {}): Desk {
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-desk-'));
    folders.push(folder);
    return { folder, ...more };
  }
  const newCode = async (validMs = 600_000) =>
    (await world.withRecords((records) => invite(records, { products: ['product-a'], validMs }, BY))).code;
  const devices = () => world.withRecords((records) => listDevices(records));
  const enrolled = async (more: Partial<Desk> = {}, algorithm?: Algorithm) => {
    const desk = newDesk(more);
    const identity = startDaemon(desk);
    await identity.enrol({ url: world.base, code: await newCode(), ...(algorithm && { algorithm }) });
    return { desk, identity };
  };

  async function ask(identity: OpenIdentity, network: Desk['network'] = {}): Promise<number> {
    const { installId } = identity;
    const signingKey = () => identity.signingKey();
    const uplink = uplinkOf({ network }, { brokerUrl: world.base, installId, signingKey });
    try {
      const { status, body } = await uplink.send(chat());
      body.resume();
      return status;
    } finally {
      uplink.close();
    }
  }

  function assertSettled(desk: Desk, identity: OpenIdentity): void {
    assert.equal(identity.state, 'active');
    assert.deepEqual(itemsOf(desk), [identity.keyid!.replace('_', '-')]);
    const { pending, leftovers } = JSON.parse(stateTextOf(desk));
    assert.deepEqual([pending, leftovers], [undefined, []]);
  }

  function assertNoSecretIn(text: string, desk: Desk, code: string): void {
    const proof = code.replaceAll('-', '').slice(4);
    assert.ok(!text.toLowerCase().includes(proof.toLowerCase()));
    for (const item of secretsOf(desk)) {
      for (const part of [item.subarray(0, 32), item.subarray(32)].filter(({ length }) => length > 0)) {
        for (const form of ['hex', 'base64', 'base64url'] as const) assert.ok(!text.includes(part.toString(form)));
      }
    }
  }

  for (const algorithm of ALGORITHMS) {
    it(`is made of a code, by ${algorithm}, and signs what the broker answers, also after a restart`, async () => {
      const desk = newDesk();
      const first = startDaemon(desk);
      assert.equal(first.state, 'none');
      const told = await first.enrol({ url: `${world.base}/`, code: await newCode(), algorithm });
      assert.deepEqual([told.products, told.name, told.keyid], [['product-a'], 'Desk by the window', first.keyid]);
      assert.equal(await ask(first), 200);
      const again = startDaemon(desk);
      await again.resume();
      assert.deepEqual([again.deviceId, again.brokerUrl], [told.deviceId, world.base]);
      assert.equal(await ask(again), 200);
      assertSettled(desk, again);
    });

    it(`is enrolled by ${algorithm} wherever it was cut off, as one device, by starting again`, async () => {
      let crashes = 0;
      for (let at = 1; ; at++) {
        const code = await newCode();
        const before = (await devices()).length;
        const desk = newDesk();
        const dies = crashing(desk, at, (step) => {
          assertNoSecretIn(stateTextOf(desk), desk, code);
          if (step === 'before /v1/enroll/challenge') assertKept(desk);
        });
        const died = await diesAt(() => startDaemon(dies).enrol({ url: world.base, code, algorithm }));
        const identity = startDaemon(desk);
        await identity.resume();
        if (identity.state !== 'active') await identity.enrol({ url: world.base, code, algorithm });
        assertSettled(desk, identity);
        assert.equal(await ask(identity), 200, `cut off at step ${at}`);
        assert.equal((await devices()).length, before + 1, `cut off at step ${at}`);
        if (!died) break;
        crashes++;
      }
      assert.ok(crashes > 30, `${crashes} steps`);
    });

    it(`has a ${algorithm} key that works wherever a rotation was cut off, and ends with a new one alone`, async () => {
      let crashes = 0;
      for (let at = 1; ; at++) {
        const { desk, identity: first } = await enrolled({}, algorithm);
        const { keyid } = first;
        const rotating = startDaemon(crashing(desk, at));
        const died = await diesAt(() => rotating.rotate());
        const waiting = startDaemon(desk);
        assert.equal(await ask(waiting), 200, `before it has resumed, cut off at step ${at}`);
        const identity = startDaemon(desk);
        await identity.resume();
        if (identity.keyid === keyid) await identity.rotate();
        assertSettled(desk, identity);
        assert.notEqual(identity.keyid, keyid);
        assert.equal(await ask(identity), 200);
        if (!died) break;
        crashes++;
      }
      assert.ok(crashes > 30, `${crashes} steps`);
    });
  }

  for (const verb of ['enrol', 'rotate'] as const) {
    it(`survives a real kill at each step of ${verb}`, async () => {
      let kills = 0;
      // Every second step, to have the time; the steps between were all cut off above, in this process.
      for (let at = 1; ; at += 2) {
        const [desk, code] = [newDesk(), await newCode()];
        if (verb === 'rotate') await startDaemon(desk).enrol({ url: world.base, code });
        const before = startDaemon(desk).keyid;
        const child = spawn(process.execPath, ['e2e/dying-desk.ts', desk.folder, verb, world.base, code, String(at)], {
          stdio: ['ignore', 'ignore', 'inherit'],
        });
        const [exit, signal] = await once(child, 'exit');
        const identity = startDaemon(desk);
        await identity.resume();
        if (verb === 'enrol' && identity.state !== 'active') await identity.enrol({ url: world.base, code });
        if (verb === 'rotate' && identity.keyid === before) await identity.rotate();
        assertSettled(desk, identity);
        assert.equal(await ask(identity), 200, `killed at step ${at}`);
        if (signal !== 'SIGKILL') {
          assert.equal(exit, 0);
          break;
        }
        kills++;
      }
      assert.ok(kills > 14, `${kills} kills`);
    });
  }

  for (const lost of ['/v1/enroll/challenge', '/v1/enroll', '/v1/whoami', '/v1/keys/rotate']) {
    it(`is one device, and its own key works, when the answer of ${lost} is lost on its way`, async () => {
      let losing = '';
      const losingProxy = await openForwardProxy(closing, (path) => path === losing);
      const desk = newDesk({ network: { proxyEnv: { http_proxy: `http://127.0.0.1:${losingProxy.port}` } } });
      const before = (await devices()).length;
      const code = await newCode();
      const identity = startDaemon(desk);
      const isRotating = lost === '/v1/keys/rotate';
      const act = () => (isRotating ? identity.rotate() : identity.enrol({ url: world.base, code }));
      if (isRotating) await identity.enrol({ url: world.base, code });
      losing = lost;
      await assert.rejects(act(), { name: 'UplinkError', code: 'broker_unreachable', sent: true });
      assert.equal(identity.state, isRotating ? 'rotating' : 'pending');
      if (isRotating) assert.equal(await ask(identity), 200);
      losing = '';
      await act();
      assert.ok(
        losingProxy.carried.filter((path) => path === lost).length > 1,
        'it was asked through the proxy, twice',
      );
      assert.equal((await devices()).length, before + 1);
      assertSettled(desk, identity);
      assert.equal(await ask(identity), 200);
    });
  }

  it('does not ask twice for what was refused, when it is run again with the same code', async () => {
    let losing = '/v1/enroll';
    const losingProxy = await openForwardProxy(closing, (path) => path === losing);
    const desk = newDesk({ network: { proxyEnv: { http_proxy: `http://127.0.0.1:${losingProxy.port}` } } });
    const asked = { url: world.base, code: '0000-1111-2222-3333-4444' };
    await assert.rejects(startDaemon(desk).enrol(asked), { code: 'broker_unreachable' });
    losing = '';
    await assert.rejects(startDaemon(desk).enrol(asked), { brokerCode: 'invite_unknown' });
    assert.equal(losingProxy.carried.filter((path) => path === '/v1/enroll').length, 2);
    await startDaemon(desk).enrol({ ...asked, code: await newCode() });
  });

  type Lie = [what: string, algorithm: Algorithm, path: string, change: object, before: string];
  const zeros = Buffer.alloc(32).toString('base64url');
  const lies: Lie[] = [
    ['another device', 'hmac-sha256', '/v1/enroll', { device_id: 'dev_other' }, '/v1/whoami'],
    ['another key to agree with', 'hmac-sha256', '/v1/enroll', { broker_key: newAgreement() }, '/v1/whoami'],
    ['a key of which there is one result', 'hmac-sha256', '/v1/enroll', { broker_key: zeros }, '/v1/whoami'],
    ['another key id', 'hmac-sha256', '/v1/enroll', { keyid: 'spk_other' }, '/v1/whoami'],
    ['another key id', 'ed25519', '/v1/enroll', { keyid: 'spk_other' }, '/v1/whoami'],
    ['a mac that is none', 'ed25519', '/v1/enroll', { mac: zeros }, '/v1/whoami'],
    ['another device in the end', 'hmac-sha256', '/v1/whoami', { device_id: 'dev_other' }, ''],
    ['another key to rotate to', 'hmac-sha256', '/v1/keys/rotate', { broker_key: newAgreement() }, ''],
    ['a mac that is none', 'hmac-sha256', '/v1/keys/rotate', { mac: zeros }, ''],
  ];
  for (const [what, algorithm, path, change, before] of lies) {
    it(`believes nobody on the way who puts ${what} into the answer of ${path}, by ${algorithm}`, async () => {
      let isLying = false;
      const liar = await openForwardProxy(
        closing,
        () => false,
        (asked) => (isLying && asked === path ? change : undefined),
      );
      const desk = newDesk({ network: { proxyEnv: { http_proxy: `http://127.0.0.1:${liar.port}` } } });
      const identity = startDaemon(desk);
      const asked = { url: world.base, code: await newCode(), algorithm };
      const isRotating = path === '/v1/keys/rotate';
      if (isRotating) await identity.enrol(asked);
      const { keyid } = identity;
      const act = () => (isRotating ? identity.rotate() : identity.enrol(asked));
      isLying = true;
      await assert.rejects(act(), { code: 'broker_unproven' });
      assert.equal(identity.keyid, keyid);
      if (before !== '') assert.ok(!liar.carried.includes(before), `${before} was asked`);
      isLying = false;
      await act();
      assertSettled(desk, identity);
      assert.equal(await ask(identity), 200);
    });
  }

  it('refuses no request while keys are replaced under load', async () => {
    const { desk, identity } = await enrolled();
    const signingKey = () => identity.signingKey();
    const uplink = uplinkOf(desk, { brokerUrl: world.base, installId: identity.installId, signingKey });
    const { keyid } = identity;
    const over = new AbortController();
    const answers: number[] = [];
    const used = new Set<string | undefined>();
    const load = Array.from({ length: 8 }, async () => {
      while (!over.signal.aborted) {
        used.add(identity.keyid);
        const { status, body } = await uplink.send(chat());
        for await (const _ of body);
        answers.push(status);
      }
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    await identity.rotate();
    await new Promise((resolve) => setTimeout(resolve, 200));
    over.abort();
    await Promise.all(load);
    uplink.close();
    assert.notEqual(identity.keyid, keyid);
    assert.deepEqual(used, new Set([keyid, identity.keyid]));
    assert.ok(answers.length > 20);
    assert.deepEqual(new Set(answers), new Set([200]));
  });

  it('rotates once when it is asked to twice at the same time', async () => {
    const { desk, identity } = await enrolled();
    const first = identity.rotate();
    // In turn: the second finds the new key too young for another, or replaces it in its own right.
    const second = identity.rotate().catch((error: Error) => error);
    const told = await first;
    const later = await second;
    if (later instanceof Error)
      assert.equal((later as Error & { brokerCode?: string }).brokerCode, 'rotation_underway');
    else assert.notEqual(later.keyid, told.keyid);
    assertSettled(desk, identity);
    assert.equal(await ask(identity), 200);
  });

  describe('with a clock that is wrong', () => {
    for (const hours of [-23, -1, -0.02, 0, 0.001, 1, 23]) {
      it(`by ${hours} h: enrols, rotates, and needs one more round trip at the most`, async () => {
        const network = { now: () => Date.now() + hours * 3_600_000 };
        const { desk, identity } = await enrolled({ network });
        await identity.rotate();
        const { installId } = identity;
        const signingKey = () => identity.signingKey();
        const uplink = uplinkOf(desk, { brokerUrl: world.base, installId, signingKey });
        const before = world.log.length;
        for (let count = 0; count < 3; count++) {
          const { status, body } = await uplink.send(chat());
          for await (const _ of body);
          assert.equal(status, 200);
        }
        const asked = world.log.slice(before).filter((line) => line.includes('/v1/chat/completions')).length;
        assert.equal(asked, Math.abs(hours) > 0.003 ? 4 : 3);
        if (Math.abs(hours) > 0.003) assert.ok(Math.abs(uplink.offsetMs + hours * 3_600_000) < 5000);
        uplink.close();
      });
    }

    it('by more than a day: the broker’s refusal is handed on, and its time is not believed', async () => {
      const { identity } = await enrolled();
      assert.equal(await ask(identity, { now: () => Date.now() - 25 * 3_600_000 }), 401);
      assert.equal(await ask(identity, { now: () => Date.now() + 25 * 3_600_000 }), 401);
    });
  });

  describe('is refused in one sentence that says what to do, and is as it was before:', () => {
    const fresh = async (url: string, code: string, more: Partial<Desk> = {}) => {
      const desk = newDesk(more);
      const identity = startDaemon(desk);
      const error = await identity.enrol({ url, code }).then(
        () => assert.fail('it was enrolled'),
        (thrown: Error & { code: string; brokerCode?: string }) => thrown,
      );
      assert.match(error.message, /^[^\n]+[.]$/);
      assertNoSecretIn(error.message, desk, code);
      return { desk, identity, error };
    };
    const UNKNOWN = '0000-1111-2222-3333-4444';

    it('a code that was mistyped, is unknown, or has expired', async () => {
      assert.equal((await fresh(world.base, 'one two three')).error.code, 'code_malformed');
      const unknown = await fresh(world.base, UNKNOWN);
      assert.equal(unknown.error.brokerCode, 'invite_unknown');
      assert.equal(unknown.identity.state, 'none');
      assert.deepEqual(itemsOf(unknown.desk), []);
      const expired = await newCode(1);
      assert.equal((await fresh(world.base, expired)).error.brokerCode, 'invite_expired');
      // And the right one is taken on the same desk.
      await unknown.identity.enrol({ url: world.base, code: await newCode() });
      assertSettled(unknown.desk, unknown.identity);
    });

    it('a code that another desktop has used', async () => {
      const code = await newCode();
      await startDaemon(newDesk()).enrol({ url: world.base, code });
      const { error, identity } = await fresh(world.base, code);
      assert.deepEqual([error.brokerCode, identity.state], ['invite_used', 'none']);
    });

    it('a device that was revoked, though its key is kept until it is enrolled again', async () => {
      const { desk, identity } = await enrolled();
      const old = identity.deviceId!;
      await world.withRecords((records) => revokeDevice(records, old, 'lost', BY));
      await new Promise((resolve) => setTimeout(resolve, 2300));
      assert.equal(await ask(identity), 401);
      await assert.rejects(identity.rotate(), { brokerCode: 'device_revoked' });
      assert.equal(identity.state, 'active');
      await identity.enrol({ url: world.base, code: await newCode() });
      assert.notEqual(identity.deviceId, old);
      assertSettled(desk, identity);
      assert.equal(await ask(identity), 200);
    });

    const impostors: [what: string, answer: RequestListener, code: string][] = [
      ['a page', (_, response) => response.end('<html>log in</html>'), 'not_a_broker'],
      ['a page that is not found', (_, response) => response.writeHead(404).end('<html>'), 'not_a_broker'],
      ['a redirect', (_, response) => response.writeHead(302, { location: '/login' }).end(), 'broker_garbled'],
      ['a fault', (_, response) => response.writeHead(502).end('bad gateway'), 'broker_busy'],
      ['JSON of another service', (_, response) => response.end('{"ok":true}'), 'not_a_broker'],
      ['JSON without an end', (_, response) => pour(response), 'not_a_broker'],
      ['nothing', ({ socket }) => socket.destroy(), 'broker_unreachable'],
      ['no HTTP', ({ socket }) => socket.end('SSH-2.0-OpenSSH\r\n'), 'broker_garbled'],
      ['no word', () => {}, 'broker_timeout'],
    ];
    for (const [what, answer, code] of impostors) {
      it(`something that answers ${what}`, async () => {
        const server = createServer(answer).listen(0, '127.0.0.1');
        closing.push(() => {
          server.close();
          server.closeAllConnections();
        });
        await once(server, 'listening');
        const { port } = server.address() as AddressInfo;
        const { error, identity } = await fresh(`http://127.0.0.1:${port}`, UNKNOWN, { exchangeMs: 500 });
        assert.equal(error.code, code);
        assert.equal(identity.state, 'pending');
      });
    }

    it('someone in the middle, who does not know the code', async () => {
      const server = createServer(({ url }, response) => {
        const answer = url === '/v1/enroll/challenge' ? { challenge: 'c', expires_in: 300 } : forged;
        response.end(JSON.stringify(answer));
      });
      const forged = {
        device_id: 'dev_1',
        keyid: 'spk_1',
        products: [],
        broker_key: Buffer.alloc(32, 9).toString('base64url'),
        mac: Buffer.alloc(32).toString('base64url'),
      };
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { error, desk } = await fresh(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, UNKNOWN);
      server.close();
      server.closeAllConnections();
      assert.equal(error.code, 'broker_unproven');
      assert.deepEqual(itemsOf(desk).length, 1, 'nothing but our own half is kept');
    });

    it('a broker that was stopped, or an address that swallows everything', async () => {
      const stopped = await fresh('http://127.0.0.1:9', UNKNOWN);
      assert.equal(stopped.error.code, 'broker_unreachable');
      proxy.plan([
        { way: 'down', do: 'blackhole', at: 0 },
        { way: 'up', do: 'blackhole', at: 0 },
      ]);
      const lost = await fresh(`http://127.0.0.1:${proxy.port}`, UNKNOWN, { exchangeMs: 500 });
      assert.equal(lost.error.code, 'broker_timeout');
      // The person turns to the right address, with the right code.
      await lost.identity.enrol({ url: world.base, code: await newCode() });
      assertSettled(lost.desk, lost.identity);
    });

    it('an address that is none, or where anybody could listen', async () => {
      for (const url of [
        'broker',
        'ftp://broker.example.com',
        'http://broker.example.com',
        'https://a:b@c',
        `${world.base}/x`,
      ]) {
        const { error, identity } = await fresh(url, UNKNOWN);
        assert.deepEqual([error.code, identity.state], ['broker_url', 'none'], url);
      }
    });
  });

  describe('and a keychain that fails', () => {
    it('sends nothing and uses up no code when it cannot keep a key', async () => {
      const code = await newCode();
      const steps: string[] = [];
      const desk = newDesk({
        atStep: (step) => void steps.push(step),
        keychainFails(what) {
          if (what === 'set') throw new Error('it is locked');
        },
      });
      const identity = startDaemon(desk);
      await assert.rejects(identity.enrol({ url: world.base, code }), { code: 'keychain_failed', exitCode: 1 });
      assert.deepEqual(
        steps.filter((step) => step.includes('/v1/')),
        [],
      );
      assert.equal(identity.state, 'none');
      delete desk.keychainFails;
      await startDaemon(desk).enrol({ url: world.base, code });
    });

    it('sends nothing when it gives back something else', async () => {
      const desk = newDesk();
      let asked = 0;
      const broken = startDaemon({
        ...desk,
        keychainFails(what, name) {
          if (what === 'get' && ++asked === 1)
            writeFileSync(join(desk.folder, 'keychain', encodeURIComponent(name)), 'x');
        },
      });
      const code = await newCode();
      await assert.rejects(broken.enrol({ url: world.base, code }), { code: 'keychain_failed' });
      assert.deepEqual(itemsOf(desk), []);
      await startDaemon(desk).enrol({ url: world.base, code });
    });

    it('leaves the old key in use when it cannot keep the new one', async () => {
      const { desk, identity } = await enrolled();
      const full = startDaemon({
        ...desk,
        keychainFails(what) {
          if (what === 'set') throw new Error('it is full');
        },
      });
      await assert.rejects(full.rotate(), { code: 'keychain_failed' });
      assert.deepEqual([full.state, full.keyid], ['active', identity.keyid]);
      assert.equal(await ask(full), 200);
    });

    it('is locked while it cannot be read, never enrols by itself, and works when it is open again', async () => {
      const { desk } = await enrolled();
      let isOpen = false;
      const identity = startDaemon({
        ...desk,
        keychainFails() {
          if (!isOpen) throw new Error('it is locked');
        },
      });
      const before = (await devices()).length;
      await assert.rejects(identity.resume(), { code: 'locked' });
      assert.equal(identity.state, 'locked');
      await assert.rejects(ask(identity), { code: 'locked', message: /unlock/ });
      isOpen = true;
      assert.equal(await ask(identity), 200);
      assert.equal(identity.state, 'active');
      assert.equal((await devices()).length, before);
    });

    it('is locked when it was emptied, and says how to start anew', async () => {
      const { desk } = await enrolled();
      rmSync(join(desk.folder, 'keychain'), { recursive: true });
      const identity = startDaemon(desk);
      await assert.rejects(identity.resume(), { code: 'item_gone', message: /sallyport forget/ });
      assert.equal(identity.state, 'locked');
      await identity.forget();
      assert.equal(identity.state, 'none');
      await identity.enrol({ url: world.base, code: await newCode() });
      assertSettled(desk, identity);
    });

    it('is not taken for another one', async () => {
      const { desk } = await enrolled();
      const state = JSON.parse(stateTextOf(desk));
      writeFileSync(join(desk.folder, 'state.json'), JSON.stringify({ ...state, keychain: 'keytar' }));
      const identity = startDaemon(desk);
      await assert.rejects(identity.signingKey(), { code: 'other_keychain' });
      await assert.rejects(identity.enrol({ url: world.base, code: await newCode() }), { code: 'other_keychain' });
      assert.equal(identity.state, 'locked');
    });
  });

  it('forgets every key, whatever was under way', async () => {
    const { desk, identity } = await enrolled();
    await diesAt(() => startDaemon(crashing(desk, 24)).rotate());
    await identity.forget();
    const started = startDaemon(desk);
    await started.forget();
    assert.deepEqual([started.state, itemsOf(desk)], ['none', []]);
    await assert.rejects(started.signingKey(), { code: 'not_enrolled', exitCode: 3 });
    await assert.rejects(started.rotate(), { code: 'not_enrolled' });
  });

  it('does not take a damaged state file for a new desktop', async () => {
    const { desk } = await enrolled();
    const good = stateTextOf(desk);
    for (const text of [
      '',
      '{',
      'null',
      '{"version":2}',
      good.replace('"file"', '7'),
      good.replace('"keyid"', '"kid"'),
    ]) {
      writeFileSync(join(desk.folder, 'state.json'), text);
      assert.throws(() => startDaemon(desk), { code: 'state_damaged' }, text);
    }
    writeFileSync(join(desk.folder, 'state.json'), good);
    assert.equal(await ask(startDaemon(desk)), 200);
  });

  it('keeps the newer key when the older one was ended before the program could say so', async () => {
    const { desk, identity } = await enrolled();
    const { keyid } = identity;
    // Cut off behind the first request that the new key signed.
    const cut = startDaemon({
      ...desk,
      atStep(step) {
        if (step === 'after /v1/whoami') throw new Crash();
      },
    });
    await assert.rejects(cut.rotate(), Crash);
    await world.withRecords((records) => retireKeys({ ...records, now: () => Date.now() + 86_400_000 * 2 }));
    await new Promise((resolve) => setTimeout(resolve, 2300));
    const again = startDaemon(desk);
    await again.resume();
    assert.notEqual(again.keyid, keyid);
    assert.equal(await ask(again), 200);
  });

  function assertKept(desk: Desk): void {
    assert.ok(itemsOf(desk).includes('pending'));
    assert.ok('pending' in JSON.parse(stateTextOf(desk)));
  }
});

// A dead program does nothing more, whatever it would have done with the error.
function crashing(desk: Desk, at: number, watch: (step: string) => void = () => {}): Desk {
  let steps = 0;
  return {
    ...desk,
    atStep(step) {
      watch(step);
      if (++steps >= at) throw new Crash(step);
    },
  };
}

function newAgreement(): string {
  return newAgreementKey().publicKey.toString('base64url');
}

function pour(response: ServerResponse): void {
  response.write('x'.repeat(65_536), (error) => {
    if (error === undefined || error === null) pour(response);
  });
}

/**
 * A proxy as companies have them. It loses the answers that it is told to, after the broker has given them, and puts words
 * of its own into others.
 */
async function openForwardProxy(
  closing: (() => void)[],
  loses: (path: string) => boolean,
  changes: (path: string) => object | undefined = () => undefined,
) {
  const carried: string[] = [];
  const server = createServer((incoming, response) => {
    const { pathname } = new URL(incoming.url!);
    carried.push(pathname);
    const outgoing = request(incoming.url!, { method: incoming.method, headers: incoming.headers }, async (answer) => {
      const text = Buffer.concat(await answer.toArray()).toString();
      if (loses(pathname)) return void incoming.socket.destroy();
      const change = changes(pathname);
      response.writeHead(answer.statusCode!, { 'content-type': answer.headers['content-type'] });
      response.end(change === undefined ? text : JSON.stringify({ ...JSON.parse(text), ...change }));
    });
    incoming.pipe(outgoing);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, carried };
}

/** Whether it was cut off; what else goes wrong is a failure. */
async function diesAt(act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    return false;
  } catch (error) {
    for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof Crash) return true;
    throw error;
  }
}

function chat() {
  return {
    method: 'POST',
    path: '/v1/chat/completions',
    query: '',
    fields: { 'content-type': 'application/json' },
    body: { bytes: Buffer.from(JSON.stringify({ ...CHAT, model: 'echo' })) },
    tag: 'sallyport-v1' as const,
    signal: AbortSignal.timeout(20_000),
  };
}

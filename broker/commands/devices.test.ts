import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readCode } from '@sallyport/protocol/enrolment.ts';
import { readConfig } from '../config/config.ts';
import { onEachDatabase, type FreshDatabase } from '../store/databases.test-support.ts';
import { devicesCommand } from './devices.ts';
import { inviteCommand } from './invite.ts';
import type { Terminal } from './terminal.ts';

const KEY = 'ab'.repeat(32);
const NOW = 1_790_000_000_000;

async function run({ place }: FreshDatabase, words: string[], products = 'p: { models: [echo] }') {
  const shown = { said: [] as string[], written: '', code: 0 };
  const data = place.kind === 'sqlite' ? join(place.file, '..') : tmpdir();
  const yaml = `
public_url: https://broker.example.com
data: ${JSON.stringify(data)}
encryption: { keys: ["${KEY}"] }
${place.kind === 'sqlite' ? '' : `database: { url: "${place.url.reveal()}" }`}
providers: { echo: { kind: echo, models: [echo] } }
products: { ${products} }`;
  const terminal: Terminal = {
    readConfig(file) {
      const { config, mistakes } = readConfig({ env: {}, cwd: '/', file, readFile: () => yaml });
      assert.equal(mistakes, undefined);
      return config;
    },
    now: () => NOW,
    say: (line) => void shown.said.push(line),
    write: (piece) => void (shown.written += piece),
    exit: (code) => void (shown.code = code),
    untilAskedToStop: () => Promise.resolve('SIGTERM'),
  };
  const [noun, ...rest] = words;
  const command = (noun === 'invite' ? inviteCommand : devicesCommand)(terminal);
  command.exitOverride().configureOutput({ writeErr: (text) => void shown.said.push(text) });
  for (const inner of command.commands) inner.exitOverride();
  await command.parseAsync(rest, { from: 'user' });
  return shown;
}

async function addDevice({ database }: FreshDatabase, id: string, name: string) {
  const times = { created_at: NOW, confirmed_at: NOW, rotate_asked_at: null, revoked_at: null, revoked_because: null };
  const device = { id, name, os: 'linux', install_id: 'i', email: null, products: '["p"]', ...times };
  const key = {
    keyid: `spk_${id}`,
    device_id: id,
    algorithm: 'ed25519',
    secret_sealed: null,
    public_key: 'A',
    daemon_key: 'A',
    broker_key: null,
    state: 'active',
    epoch: 0,
    created_at: NOW,
    first_used_at: NOW,
    not_after: null,
  } as const;
  await database.write(async (tx) => {
    await tx.insertInto('devices').values(device).execute();
    await tx.insertInto('device_keys').values(key).execute();
  });
}

onEachDatabase('sallyport-broker invite', (fresh) => {
  it('prints a code for the only product there is, and nothing else, on standard output', async () => {
    const { written, said, code } = await run(fresh(), ['invite']);
    assert.match(written, /^(?:[0-9A-HJKMNP-TV-Z]{4}-){4}[0-9A-HJKMNP-TV-Z]{4}\n$/);
    assert.deepEqual(
      [said, code],
      [
        [
          'Good for one desktop, for p, until 2026-09-21T14:23:20.000Z. There: sallyport enroll https://broker.example.com',
        ],
        0,
      ],
    );
  });

  it('prints what a program reads', async () => {
    const words = ['invite', '--product', 'a', '--product', 'b', '--product', 'a', '--minutes', '60', '--json'];
    const { written, said } = await run(
      fresh(),
      [...words, '--name', 'Front desk', '--email', 'a@example.com'],
      'a: { models: [echo] }, b: { models: [echo] }',
    );
    const { code, expires_at, ...rest } = JSON.parse(written) as Record<string, string>;
    assert.deepEqual([rest, expires_at, said], [{}, new Date(NOW + 3_600_000).toISOString(), []]);
    const row = await fresh().database.read.selectFrom('invites').selectAll().executeTakeFirstOrThrow();
    assert.deepEqual(
      [row.id, row.products, row.device_name, row.email, row.created_by],
      [readCode(code!)!.id, '["a","b"]', 'Front desk', 'a@example.com', 'operator'],
    );
    // Not even sealed: the secret part of the code is nowhere.
    assert.ok(!JSON.stringify(row).includes(readCode(code!)!.secret));
  });

  it('only makes a code, and writes nothing anywhere', async () => {
    const { written } = await run(fresh(), ['invite', '--print-code']);
    assert.ok(readCode(written.trim()));
    assert.deepEqual(await fresh().database.read.selectFrom('invites').selectAll().execute(), []);
  });

  for (const [what, words, says] of [
    ['two products and none named', ['invite'], 'Name a product with --product; there is a, b.'],
    ['a product there is not', ['invite', '--product', 'c'], 'There is no product c; there is a, b.'],
  ] as const) {
    it(`refuses ${what}`, async () => {
      const { written, said, code } = await run(fresh(), [...words], 'a: { models: [echo] }, b: { models: [echo] }');
      assert.deepEqual([written, said, code], ['', [says], 1]);
    });
  }

  for (const words of [
    ['--minutes', '0'],
    ['--minutes', '1441'],
    ['--minutes', '1.5'],
    ['--name', 'a\nb'],
    ['--email', ''],
  ]) {
    it(`refuses ${words.join(' ')}`, async () => {
      await assert.rejects(() => run(fresh(), ['invite', ...words]), { code: 'commander.invalidArgument' });
    });
  }
});

onEachDatabase('sallyport-broker devices', (fresh) => {
  beforeEach(async () => {
    await addDevice(fresh(), 'dev_a', 'One');
    await addDevice(fresh(), 'dev_b', 'Two');
    await addDevice(fresh(), 'dev_c', 'Two');
  });
  const states = async () => {
    const { written } = await run(fresh(), ['devices', 'list', '--json']);
    return Object.fromEntries(
      (JSON.parse(written) as { id: string; state: string }[]).map(({ id, state }) => [id, state]),
    );
  };

  it('lists them in columns, and as JSON', async () => {
    const { written } = await run(fresh(), ['devices', 'list']);
    assert.deepEqual(written.split('\n').slice(0, 2), [
      'id     state   name  email  products  enrolled',
      'dev_a  active  One   -      p         2026-09-21T14:13:20.000Z',
    ]);
    assert.deepEqual(await states(), { dev_a: 'active', dev_b: 'active', dev_c: 'active' });
  });

  it('shows one by its id or its name', async () => {
    for (const wanted of ['dev_a', 'One']) {
      const { written } = await run(fresh(), ['devices', 'show', wanted]);
      assert.match(written, /^id {15}dev_a\n/);
      assert.match(written, /\nkey {14}spk_dev_a {2}ed25519 {2}active {2}2026/);
    }
  });

  it('renames, asks for a new key, and revokes; each stands in the audit log', async () => {
    assert.deepEqual((await run(fresh(), ['devices', 'rename', 'One', 'Uno'])).said, ['dev_a is called Uno now.']);
    assert.deepEqual((await run(fresh(), ['devices', 'rotate', 'Uno'])).said, ['dev_a will be asked for a new key.']);
    const { said } = await run(fresh(), ['devices', 'revoke', 'Uno', '--because', 'lost']);
    assert.match(said[0]!, /^dev_a \(Uno\) is shut out\./);
    assert.deepEqual((await run(fresh(), ['devices', 'revoke', 'Uno'])).said, ['dev_a was revoked before.']);
    assert.deepEqual((await states())['dev_a'], 'revoked');
    const late = await run(fresh(), ['devices', 'rotate', 'dev_a']);
    assert.deepEqual([late.said, late.code], [['dev_a is revoked; it has no key.'], 1]);
    const entries = await fresh().database.read.selectFrom('audit_entries').selectAll().orderBy('n').execute();
    assert.deepEqual(
      entries.map(({ chain, actor, action, target, details }) => [chain, actor, action, target, details]),
      [
        ['operator', 'operator', 'device.renamed', 'dev_a', '{"name":"Uno"}'],
        ['operator', 'operator', 'rotation.asked', 'dev_a', '{}'],
        ['operator', 'operator', 'device.revoked', 'dev_a', '{"because":"lost"}'],
      ],
    );
  });

  it('revokes all, when it is really meant', async () => {
    const asked = await run(fresh(), ['devices', 'revoke-all']);
    assert.deepEqual([asked.code, await states()], [1, { dev_a: 'active', dev_b: 'active', dev_c: 'active' }]);
    const { said } = await run(fresh(), ['devices', 'revoke-all', '--yes']);
    assert.match(said[0]!, /^3 devices are shut out\./);
    assert.deepEqual(await states(), { dev_a: 'revoked', dev_b: 'revoked', dev_c: 'revoked' });
  });

  for (const [wanted, says] of [
    ['Two', 'Several devices are called Two; use the id: dev_b, dev_c.'],
    ['nobody', 'There is no device nobody; sallyport-broker devices list shows them.'],
  ] as const) {
    it(`does nothing to ${wanted}`, async () => {
      for (const words of [
        ['show', wanted],
        ['rename', wanted, 'x'],
        ['rotate', wanted],
        ['revoke', wanted],
      ]) {
        const { said, code } = await run(fresh(), ['devices', ...words]);
        assert.deepEqual([said, code], [[says], 1]);
      }
      assert.deepEqual(await states(), { dev_a: 'active', dev_b: 'active', dev_c: 'active' });
    });
  }
});

import assert from 'node:assert/strict';
import { appendFileSync, copyFileSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { sql } from 'kysely';
import { postgresServer } from '../broker/store/postgres.test-support.ts';
import { listDevices, revokeDevice } from '../broker/control/devices.ts';
import { invite } from '../broker/control/invites.ts';
import { askToEnrol, enrolDesktop, newOffer, readEnrolment, whoAmI } from './desktop.ts';
import { openWorld, type World } from './world.ts';

const BY = { actor: 'operator' };
const CODE = 'K7QM-3D8W-ZT4P-9HXC-62VN';

const codeIn = (world: World) =>
  world
    .withRecords((records) => invite(records, { products: ['product-a'], validMs: 600_000 }, BY))
    .then(({ code }) => code);
const ready = async (world: World) => {
  const { status, text } = await world.ask({ path: '/ready', signed: false });
  return { status, issues: (JSON.parse(text) as { issues?: string[] }).issues ?? [] };
};

describe('the first invitation', function () {
  this.timeout(30_000);

  it('lets one device in by a code from the environment, once, and a restart does not renew it', async () => {
    const more = `first_invite: "product-a:${CODE}"`;
    const first = await openWorld({ more, database: 'sqlite' });
    const offer = newOffer();
    const held = readEnrolment(CODE, offer, await askToEnrol(first, CODE, offer));
    assert.equal((await whoAmI(first, held.key)).status, 200);
    assert.ok(!first.log.join('').includes('3D8W'), 'the code is not in the log');
    await first.close({ keep: true });
    const second = await openWorld({ more, database: 'sqlite', folder: first.folder });
    try {
      assert.equal((await askToEnrol(second, CODE, newOffer())).error.code, 'invite_used');
      assert.equal((await whoAmI(second, held.key)).status, 200);
      // Not even when the row of the code is long forgotten: there is a device.
      await second.withRecords(({ database }) => database.write((tx) => tx.deleteFrom('invites').execute()));
    } finally {
      await second.close({ keep: true });
    }
    const third = await openWorld({ more, database: 'sqlite', folder: first.folder });
    try {
      assert.equal((await askToEnrol(third, CODE, newOffer())).error.code, 'invite_unknown');
    } finally {
      await third.close();
    }
  });
});

describe('a broker whose key ring has changed', function () {
  this.timeout(30_000);

  it('is not ready and names the key that is missing, and is well again when it is given back', async () => {
    const [old, other] = [Buffer.alloc(32, 1).toString('base64'), Buffer.alloc(32, 2).toString('base64')];
    const ring = (...keys: string[]) =>
      ({ database: 'sqlite', more: `encryption: { keys: ${JSON.stringify(keys)} }` }) as const;
    const first = await openWorld(ring(old));
    const { folder } = first;
    const device = await enrolDesktop(first, await codeIn(first));
    await first.close({ keep: true });

    const second = await openWorld({ ...ring(other), folder });
    const { status, issues } = await ready(second);
    assert.deepEqual([status, issues.length], [503, 1]);
    assert.match(issues[0]!, /k[0-9a-f]{10}/);
    const refused = await whoAmI(second, device.key);
    assert.deepEqual([refused.status, refused.error.code], [503, 'store_unavailable']);
    assert.equal((await second.chat()).status, 200, 'clients of the configuration need no database');
    await second.close({ keep: true });

    const third = await openWorld({ ...ring(other, old), folder });
    assert.equal((await ready(third)).status, 200);
    assert.equal((await whoAmI(third, device.key)).status, 200);
    await third.close();
  });
});

describe('a broker whose database was put back by hand', function () {
  this.timeout(30_000);

  it('does not start: what was revoked since would be let in again', async () => {
    const first = await openWorld({ database: 'sqlite' });
    const { folder } = first;
    const device = await enrolDesktop(first, await codeIn(first));
    await first.close({ keep: true });
    const data = join(folder, 'data');
    copyFileSync(join(data, 'sallyport.db'), join(folder, 'old.db'));
    const second = await openWorld({ database: 'sqlite', folder });
    await second.withRecords((records) => revokeDevice(records, device.deviceId, 'lost', BY));
    await second.close({ keep: true });
    assert.ok(existsSync(join(data, 'audit-checkpoints.jsonl')));

    for (const rest of ['-wal', '-shm']) rmSync(join(data, `sallyport.db${rest}`), { force: true });
    copyFileSync(join(folder, 'old.db'), join(data, 'sallyport.db'));
    await assert.rejects(
      () => openWorld({ database: 'sqlite', folder }),
      /older than the checkpoint .* sallyport-broker restore/,
    );
    rmSync(join(data, 'audit-checkpoints.jsonl'));
    const third = await openWorld({ database: 'sqlite', folder });
    assert.equal((await third.withRecords((records) => listDevices(records)))[0]!.state, 'active');
    await third.close();
  });

  it('is not mistaken for one by a torn last line', async () => {
    const first = await openWorld({ database: 'sqlite' });
    const { folder } = first;
    await enrolDesktop(first, await codeIn(first));
    await first.close({ keep: true });
    appendFileSync(join(folder, 'data', 'audit-checkpoints.jsonl'), '{"auditCheckpoint":{"n":9');
    const second = await openWorld({ database: 'sqlite', folder });
    assert.equal((await ready(second)).status, 200);
    await second.close();
  });
});

describe('a broker over a Postgres', function () {
  this.timeout(60_000);
  let server: Awaited<ReturnType<typeof postgresServer>>;
  before(async function () {
    server = await postgresServer();
    if (server === undefined) this.skip();
  });

  it('waits for its migrations where it may not do them, and begins by itself once they are done', async () => {
    const url = (await server!.freshUrl()) as `postgresql:${string}`;
    const world = await openWorld({ database: url, migrates: false });
    try {
      assert.deepEqual((await ready(world)).issues, ['the database lacks migrations; run sallyport-broker migrate']);
      assert.equal((await askToEnrol(world, CODE, newOffer())).status, 503);
      assert.equal((await world.chat()).status, 200);
      const other = await openWorld({ database: url });
      await other.close();
      for (let waited = 0; (await ready(world)).status !== 200; waited++) {
        assert.ok(waited < 50);
        await setTimeout(100);
      }
      const device = await enrolDesktop(world, await codeIn(world));
      assert.equal((await world.chat({}, { key: device.key })).status, 200);
    } finally {
      await world.close();
    }
  });

  it('goes on with what it knows while the database is away, says so, and is well again by itself', async () => {
    const world = await openWorld({ database: 'postgres' });
    try {
      const code = await codeIn(world);
      const [known, unknown] = [
        await enrolDesktop(world, await codeIn(world)),
        await enrolDesktop(world, await codeIn(world)),
      ];
      const stranger = { ...unknown.key, keyid: 'spk_0123456789abcdefghjkmnpqrs' };
      await server!.kill('SIGQUIT');
      assert.equal((await world.chat({}, { key: known.key })).status, 200);
      const refused = await world.chat({}, { key: stranger });
      assert.deepEqual(
        [refused.status, refused.error.code, refused.headers['retry-after']],
        [503, 'store_unavailable', '2'],
      );
      const offer = newOffer();
      assert.equal((await askToEnrol(world, code, offer)).status, 503);
      for (let waited = 0; (await ready(world)).status === 200; waited++) {
        assert.ok(waited < 100, 'readiness notices');
        await setTimeout(100);
      }
      assert.equal(
        (await world.ask({ path: '/health', signed: false })).status,
        200,
        'or the platform would restart it',
      );
      await server!.start();
      const backMs = performance.now();
      for (let waited = 0; (await ready(world)).status !== 200; waited++) {
        assert.ok(waited < 60, 'recovery takes at most 5 s');
        await setTimeout(100);
      }
      console.log(`      ready again ${Math.round(performance.now() - backMs)} ms after the database was`);
      readEnrolment(code, offer, await askToEnrol(world, code, offer));
      assert.equal((await world.chat({}, { key: known.key })).status, 200);
    } finally {
      await world.close();
    }
  });
});

for (const database of ['sqlite', 'postgres'] as const) {
  describe(`two hundred secrets, on ${database}`, function () {
    this.timeout(60_000);

    it('of a hundred codes and a hundred devices, are in no dump, no log and no answer, in no form', async () => {
      const world = await openWorld({ database });
      const codes: string[] = [];
      const secrets: Buffer[] = [];
      const answers: string[] = [];
      const ask: World['ask'] = async (asked) => {
        const answer = await world.ask(asked);
        answers.push(answer.text, JSON.stringify(answer.headers));
        return answer;
      };
      for (let i = 0; i < 100; i++) {
        const code = await codeIn(world);
        const device = await enrolDesktop({ ask }, code);
        codes.push(code);
        secrets.push(device.secret!);
        await ask({ key: device.key, body: { model: 'nope' } });
        await ask({
          key: device.key,
          path: '/v1/keys/rotate',
          moment: { tag: 'sallyport-device-v1' },
          body: { alg: 'none' },
        });
      }
      const dump = await world.withRecords(async ({ database: { read, tableNames } }) => {
        const tables = await Promise.all(
          (await tableNames()).map((table) => sql`select * from ${sql.table(table)}`.execute(read)),
        );
        return JSON.stringify(tables.map(({ rows }) => rows));
      });
      const files =
        database === 'sqlite'
          ? ['sallyport.db', 'sallyport.db-wal'].map((name) => readFileSync(join(world.folder, 'data', name), 'latin1'))
          : [];
      const log = world.log.join('');
      await world.close();

      const places = { dump, log, answers: answers.join('\n'), files: files.join('\n') };
      const formsOf = (secret: Buffer) => [
        secret.toString('latin1'),
        secret.toString('hex'),
        secret.toString('hex').toUpperCase(),
        secret.toString('base64').replace(/=+$/, ''),
        secret.toString('base64url'),
        encodeURIComponent(secret.toString('base64')),
      ];
      for (const [place, text] of Object.entries(places)) {
        for (const secret of secrets) {
          for (const form of formsOf(secret)) assert.ok(!text.includes(form), `a secret is in the ${place}`);
        }
        for (const code of codes) {
          const letters = code.replaceAll('-', '').slice(4);
          assert.ok(!text.toUpperCase().includes(letters) && !text.includes(code), `a code is in the ${place}`);
        }
      }
      assert.ok(
        dump.includes('sp1.') && log.length > 1000 && answers.length >= 500,
        'there was something to look through',
      );
    });
  });
}

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { sql } from 'kysely';
import { Secret } from '@sallyport/protocol/secret.ts';
import { onEachDatabase, type FreshDatabase } from './databases.test-support.ts';
import { Envelope } from './envelope.ts';
import { keyRing } from './key-ring.ts';

// What someone finds who has a copy of the database: a thief of a backup, or a hole in a query.

const FORMS: Record<string, (secret: Buffer) => string> = {
  raw: (secret) => secret.toString('latin1'),
  'hex, small': (secret) => secret.toString('hex'),
  'hex, large': (secret) => secret.toString('hex').toUpperCase(),
  base64: (secret) => secret.toString('base64').replace(/=+$/, ''),
  base64url: (secret) => secret.toString('base64url'),
  'as in a URL': (secret) => encodeURIComponent(secret.toString()),
  'every byte as in a URL': (secret) => secret.toString('hex').replace(/../g, '%$&'),
  'the same, large': (secret) => secret.toString('hex').toUpperCase().replace(/../g, '%$&'),
  reversed: (secret) => secret.toString('latin1').split('').toReversed().join(''),
};

async function dump({ database, place }: FreshDatabase): Promise<string> {
  const tables = (await database.read.introspection.getTables()).map(({ name }) => name);
  assert.ok(tables.includes('invites') && tables.includes('data_keys'));
  const pieces: string[] = [];
  for (const table of tables) {
    for (const row of (await sql<Record<string, unknown>>`select * from ${sql.table(table)}`.execute(database.read))
      .rows) {
      pieces.push(Object.values(row).map(String).join('\n'));
    }
  }
  const files = place.kind === 'sqlite' ? [place.file, `${place.file}-wal`] : [];
  for (const file of files) {
    assert.ok(existsSync(file), file);
    pieces.push(readFileSync(file, 'latin1'));
  }
  return pieces.join('\n');
}

onEachDatabase('a copy of the database', (fresh) => {
  const key = new Secret(randomBytes(32));
  const newer = new Secret(randomBytes(32));
  // As vendors' keys are written, as people choose them, and as programs make them.
  const secrets = Array.from({ length: 200 }, (_, i) => {
    const random = randomBytes(24);
    if (i % 3 === 0) return Buffer.from(`sk-live/${random.toString('base64')}`);
    return i % 3 === 1 ? Buffer.from(`p@ss wörd ${random.toString('hex')}`) : Buffer.concat([random, randomBytes(8)]);
  });

  async function keep(sealOf: (tx: Parameters<Envelope['seal']>[0], row: string, secret: Buffer) => Promise<string>) {
    await fresh().database.write(async (tx) => {
      for (const [i, secret] of secrets.entries()) {
        const times = { created_at: 1, expires_at: 2 };
        const psk = await sealOf(tx, `i${i}`, secret);
        await tx
          .insertInto('invites')
          .values({ id: `i${i}`, psk_sealed: psk, products: '[]', created_by: 'a', ...times })
          .execute();
      }
    });
  }

  function found(copy: string): string[] {
    const all = [...secrets, key.reveal(), newer.reveal()];
    return Object.entries(FORMS).flatMap(([form, write]) =>
      all.some((secret) => copy.includes(write(secret))) ? [form] : [],
    );
  }

  it('holds none of 200 secrets, and no key of the ring, in any form', async () => {
    const { database } = fresh();
    const envelope = new Envelope({ ring: keyRing([key]), now: Date.now });
    await keep((tx, row, secret) => envelope.seal(tx, { table: 'invites', column: 'psk_sealed', row }, secret));
    await new Envelope({ ring: keyRing([newer, key]), now: Date.now }).rewrap(database);
    const copy = await dump(fresh());
    assert.ok(copy.includes('sp1.') && copy.length > 200 * 80);
    assert.deepEqual(found(copy), []);
    const rows = await database.read.selectFrom('invites').select(['id', 'psk_sealed']).execute();
    for (const { id, psk_sealed: sealed } of rows) {
      const opened = await envelope
        .open(database.read, { table: 'invites', column: 'psk_sealed', row: id }, sealed!)
        .catch(() => undefined);
      assert.equal(opened, undefined, 'the old key alone opens nothing any more');
    }
    const holder = new Envelope({ ring: keyRing([newer]), now: Date.now });
    for (const { id, psk_sealed: sealed } of rows) {
      const place = { table: 'invites', column: 'psk_sealed', row: id };
      assert.deepEqual(await holder.open(database.read, place, sealed!), secrets[Number(id.slice(1))]);
    }
  });

  // Otherwise the search above could be blind.
  for (const [form, write] of Object.entries(FORMS)) {
    it(`would be seen to hold one that was written unsealed: ${form}`, async () => {
      const text = write(secrets[0]!);
      await keep(async (_, row) => (row === 'i77' ? `x${text}x` : 'sealed'));
      assert.ok(found(await dump(fresh())).includes(form));
    });
  }
});

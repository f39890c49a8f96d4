import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { inspect } from 'node:util';
import { Secret } from '@sallyport/protocol/secret.ts';
import type { Database } from './database.ts';
import { onEachDatabase } from './databases.test-support.ts';
import { Envelope, EnvelopeError } from './envelope.ts';
import { keyId, keyRing } from './key-ring.ts';

const OLD = new Secret(randomBytes(32));
const NEW = new Secret(randomBytes(32));
const PLACE = { table: 'device_keys', column: 'secret_sealed', row: 'spk_a' };
const FORM = /^sp1\.d[\da-f]{20}\.[\w-]{16}\.[\w-]{22,}$/;
const MOST = 2 ** 28;

const envelopeOf = (...keys: Secret<Buffer>[]) => new Envelope({ ring: keyRing(keys), now: Date.now });

function seal(database: Database, envelope: Envelope, plain: string | Buffer, place = PLACE): Promise<string> {
  return database.write((tx) => envelope.seal(tx, place, Buffer.from(plain)));
}

async function open(database: Database, envelope: Envelope, sealed: string, place = PLACE): Promise<string> {
  return (await envelope.open(database.read, place, sealed)).toString();
}

const rowsOf = (database: Database) => database.read.selectFrom('data_keys').selectAll().orderBy('id').execute();

/** Refused, with the words that operators of older servers know, and with nothing in them that was sealed or seals. */
async function refuses(database: Database, envelope: Envelope, sealed: string, place = PLACE): Promise<void> {
  const refused = await open(database, envelope, sealed, place).then(
    (plain) => assert.fail(`opened: ${sealed} gave ${plain}`),
    (error: unknown) => error,
  );
  assert.ok(refused instanceof EnvelopeError, inspect(refused));
  assert.match(
    refused.message,
    /^Failed to decrypt data: [a-z_]+\.[a-z_]+ of \S+ (?:was|is not) .*; restore it from a/,
  );
  for (const part of sealed.split('.').slice(2)) {
    assert.ok(part.length < 8 || !inspect(refused).includes(part.slice(0, 8)), refused.message);
  }
}

onEachDatabase('the envelope', (fresh) => {
  it('opens what it sealed, whatever it is', async () => {
    const { database, reopen } = fresh();
    const envelope = envelopeOf(OLD);
    for (const plain of ['', 'a', 'ünïcödé 🔑', randomBytes(32), randomBytes(100_000)].map((one) => Buffer.from(one))) {
      const sealed = await seal(database, envelope, plain);
      assert.match(sealed, FORM);
      assert.deepEqual(await envelope.open(database.read, PLACE, sealed), plain);
      // And so does another process with the same key, inside a transaction, too.
      const other = await reopen();
      assert.deepEqual(await envelopeOf(OLD).open(other.read, PLACE, sealed), plain);
      assert.deepEqual(await other.write((tx) => envelopeOf(OLD).open(tx, PLACE, sealed)), plain);
    }
  });

  it('seals the same value differently each time', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const sealed = await database.write(async (tx) => {
      const all: string[] = [];
      for (let i = 0; i < 200; i++) all.push(await envelope.seal(tx, PLACE, Buffer.from('same')));
      return all;
    });
    for (const part of [2, 3]) assert.equal(new Set(sealed.map((one) => one.split('.')[part])).size, 200);
  });

  it('opens nothing in another row, column or table', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const sealed = await seal(database, envelope, 'mine');
    assert.equal(await open(database, envelope, sealed), 'mine');
    await refuses(database, envelope, sealed, { ...PLACE, row: 'spk_b' });
    await refuses(database, envelope, sealed, { ...PLACE, column: 'broker_key' });
    await refuses(database, envelope, sealed, { ...PLACE, table: 'invites' });
  });

  it('takes no place that could be read as another', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const sealed = await seal(database, envelope, 'x', { table: 'a', column: 'b', row: 'c' });
    for (const place of [
      { table: 'a', column: 'b|c', row: 'd' },
      { table: 'a|b', column: 'c', row: 'd' },
      { table: 'a', column: 'b', row: 'c|d' },
      { table: 'a', column: 'b', row: '' },
    ]) {
      await assert.rejects(seal(database, envelope, 'x', place), TypeError);
      await assert.rejects(open(database, envelope, sealed, place), TypeError);
    }
  });

  it('opens nothing of which a single bit was changed, in its text or in its bytes', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const sealed = await seal(database, envelope, 'a secret of a device');
    const changed = new Set<string>();
    for (let bit = 0; bit < sealed.length * 8; bit++)
      changed.add(flip(Buffer.from(sealed, 'latin1'), bit).toString('latin1'));
    const parts = sealed.split('.');
    for (const which of [2, 3]) {
      const bytes = Buffer.from(parts[which]!, 'base64url');
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        changed.add(parts.with(which, flip(bytes, bit).toString('base64url')).join('.'));
      }
    }
    assert.ok(changed.size > sealed.length * 8);
    assert.ok(!changed.has(sealed));
    for (const one of changed) await refuses(database, envelope, one);
    assert.equal(await open(database, envelope, sealed), 'a secret of a device');
  });

  it('opens nothing that was cut short or made longer, at any place', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const sealed = await seal(database, envelope, 'whole');
    for (let length = 0; length < sealed.length; length++) await refuses(database, envelope, sealed.slice(0, length));
    for (const more of ['A', '=', '.', ' ', '\n', '\0', 'AAAA']) {
      for (let at = 0; at <= sealed.length; at += 7) {
        await refuses(database, envelope, sealed.slice(0, at) + more + sealed.slice(at));
      }
      await refuses(database, envelope, sealed + more);
    }
  });

  it('takes one version and one form only', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const sealed = await seal(database, envelope, 'a');
    const [, id, nonce, rest] = sealed.split('.') as [string, string, string, string];
    const [row] = await rowsOf(database);
    assert.equal(row?.id, id);
    for (const other of [
      `sp2.${id}.${nonce}.${rest}`,
      `SP1.${id}.${nonce}.${rest}`,
      `sp1.${id.toUpperCase()}.${nonce}.${rest}`,
      `sp1.${row.kek}.${id}.${nonce}.${rest}`,
      `sp1.${nonce}.${rest}`,
      `sp1.${id}.${rest}.${nonce}`,
      `sp1.${id}.${nonce}.${Buffer.from(rest, 'base64url').toString('base64')}`,
      `sp1.${id}.${nonce}.${sameBytes(rest)}`,
      `sp1.d${'0'.repeat(20)}.${nonce}.${rest}`,
      row.wrapped,
      JSON.stringify(sealed),
      'a',
    ]) {
      await refuses(database, envelope, other);
    }
  });

  it('reads a data key once, and does not ask the database for it again', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const sealed = await seal(database, envelope, 'kept');
    assert.equal(await open(database, envelope, sealed), 'kept');
    await database.write((tx) => tx.deleteFrom('data_keys').execute());
    assert.equal(await open(database, envelope, sealed), 'kept');
    await refuses(database, envelopeOf(OLD), sealed);
  });
});

onEachDatabase('data keys', (fresh) => {
  it('are there after a rollback of the first seal ever, for whoever seals next', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    await assert.rejects(
      database.write(async (tx) => {
        const sealed = await envelope.seal(tx, PLACE, Buffer.from('lost'));
        assert.equal((await envelope.open(tx, PLACE, sealed)).toString(), 'lost');
        throw new Error('changed its mind');
      }),
      /changed its mind/,
    );
    assert.deepEqual(await rowsOf(database), []);
    const sealed = await seal(database, envelope, 'kept');
    assert.equal((await rowsOf(database)).length, 1);
    assert.equal(await open(database, envelopeOf(OLD), sealed), 'kept');
  });

  it('are not borrowed from a transaction that may yet roll back', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const [hasSealed, mayEnd] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const first = database.write(async (tx) => {
      await envelope.seal(tx, PLACE, Buffer.from('lost'));
      hasSealed.resolve();
      await mayEnd.promise;
      throw new Error('changed its mind');
    });
    await hasSealed.promise;
    const second = seal(database, envelope, 'kept');
    // SQLite lets them in one after the other; Postgres lets the second one pass.
    await Promise.race([second, setTimeout(300)]);
    mayEnd.resolve();
    await assert.rejects(first, /changed its mind/);
    assert.equal(await open(database, envelopeOf(OLD), await second), 'kept');
  });

  it('count their seals in blocks, and reserve anew when a reservation was rolled back', async () => {
    const { database } = fresh();
    const uses = async () => (await rowsOf(database)).map((row) => row.uses);
    await seal(database, envelopeOf(OLD), 'a');
    assert.deepEqual(await uses(), [4096]);
    const envelope = envelopeOf(OLD);
    const failing = database.write(async (tx) => {
      await envelope.seal(tx, PLACE, Buffer.from('b'));
      throw new Error('changed its mind');
    });
    await assert.rejects(failing, /changed its mind/);
    assert.deepEqual(await uses(), [4096]);
    await database.write(async (tx) => {
      for (let i = 0; i < 4096; i++) await envelope.seal(tx, PLACE, Buffer.from('c'));
    });
    assert.deepEqual(await uses(), [8192]);
    await seal(database, envelope, 'd');
    assert.deepEqual(await uses(), [12_288]);
  });

  it('are retired after 2^28 seals, and still open what they sealed', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const first = await seal(database, envelope, 'first');
    await database.write((tx) =>
      tx
        .updateTable('data_keys')
        .set({ uses: MOST - 4096 })
        .execute(),
    );
    const last = await seal(database, envelopeOf(OLD), 'last');
    assert.deepEqual(
      (await rowsOf(database)).map(({ uses }) => uses),
      [MOST],
    );
    await seal(database, envelopeOf(OLD), 'by another');
    // This one has seals of the first key left, and they do not count for the second.
    const next = await seal(database, envelope, 'next');
    assert.deepEqual(new Set((await rowsOf(database)).map(({ uses }) => uses)), new Set([MOST, 8192]));
    assert.notEqual(next.split('.')[1], last.split('.')[1]);
    for (const [sealed, plain] of [
      [first, 'first'],
      [last, 'last'],
      [next, 'next'],
    ] as const) {
      assert.equal(await open(database, envelopeOf(OLD), sealed), plain);
    }
  });

  it('are shared: each broker opens what others sealed, and all soon seal with the same one', async () => {
    const { database } = fresh();
    const envelopes = Array.from({ length: 6 }, () => envelopeOf(OLD));
    // On Postgres those that are first make one each, because none sees what the others have not committed.
    const first = Array.from({ length: 60 }, (_, i) => seal(database, envelopes[i % 6]!, `value ${i}`));
    for (const [i, sealed] of (await Promise.all(first)).entries()) {
      assert.equal(await open(database, envelopes[(i + 1) % 6]!, sealed), `value ${i}`);
    }
    const later = await Promise.all(Array.from({ length: 60 }, (_, i) => seal(database, envelopes[i % 6]!, 'later')));
    assert.equal(new Set(later.map((sealed) => sealed.split('.')[1])).size, 1);
  });

  it('open nothing once they were changed, or moved to another row', async () => {
    const { database } = fresh();
    const envelope = envelopeOf(OLD);
    const sealed = await seal(database, envelope, 'a');
    await database.write((tx) => tx.updateTable('data_keys').set({ uses: MOST }).execute());
    const other = await seal(database, envelope, 'b');
    const rows = await rowsOf(database);
    const whole = rows.find(({ id }) => id === sealed.split('.')[1])!;
    const stranger = rows.find(({ id }) => id === other.split('.')[1])!;
    const [nonce, wrapped] = whole.wrapped.split('.') as [string, string];
    const bytes = Buffer.from(wrapped, 'base64url');
    const put = (text: string) =>
      database.write((tx) => tx.updateTable('data_keys').set({ wrapped: text }).where('id', '=', whole.id).execute());
    const changed = [0, 255, 256, 383].map((bit) => `${nonce}.${flip(bytes, bit).toString('base64url')}`);
    const canary = await database.read.selectFrom('key_canaries').select('sealed').executeTakeFirstOrThrow();
    for (const text of [stranger.wrapped, canary.sealed, ...changed, nonce, `${whole.wrapped}.${nonce}`, '']) {
      await put(text);
      for (const act of [() => open(database, envelopeOf(OLD), sealed), () => envelopeOf(NEW, OLD).rewrap(database)]) {
        await assert.rejects(act, (error: Error) => {
          assert.ok(error instanceof EnvelopeError, inspect(error));
          assert.equal(
            error.message,
            `Failed to decrypt data: the data key ${whole.id} was changed in the database; restore the table data_keys from a backup.`,
          );
          return true;
        });
      }
    }
    await put(whole.wrapped);
    assert.equal(await open(database, envelopeOf(OLD), sealed), 'a');
  });
});

onEachDatabase('the check of the key ring', (fresh) => {
  it('finds nothing wrong with an empty database, and writes nothing to it', async () => {
    const { database } = fresh();
    assert.equal(await envelopeOf(OLD).check(database), undefined);
    assert.deepEqual(await database.read.selectFrom('key_canaries').selectAll().execute(), []);
  });

  it('names a key that is missing, and finds nothing wrong once it is given back', async () => {
    const { database } = fresh();
    const sealed = await seal(database, envelopeOf(OLD), 'a');
    assert.equal(await envelopeOf(OLD).check(database), undefined);
    const says = await envelopeOf(NEW).check(database);
    assert.match(
      says ?? '',
      new RegExp(
        `^Failed to decrypt data: the encryption key ${keyId(OLD)} is not in the key ring.* add it to encryption.keys \\(ENCRYPTION_KEY\\) behind the first, or put encryption.key back`,
      ),
    );
    await assert.rejects(open(database, envelopeOf(NEW), sealed), { name: 'EnvelopeError', message: says });
    // Nothing is sealed with another key in the meantime: half of the values would need one key, half the other.
    await assert.rejects(seal(database, envelopeOf(NEW), 'b'), { name: 'EnvelopeError', message: says });
    assert.equal(await envelopeOf(NEW, OLD).check(database), undefined);
    assert.equal(await open(database, envelopeOf(NEW, OLD), sealed), 'a');
  });

  it('names all that are missing', async () => {
    const { database } = fresh();
    const others = [new Secret(randomBytes(32)), new Secret(randomBytes(32))];
    for (const key of others) {
      await seal(database, envelopeOf(key), 'a');
      await database.write((tx) => tx.updateTable('data_keys').set({ uses: MOST }).execute());
    }
    const ids = others.map(keyId).toSorted();
    assert.match(
      (await envelopeOf(NEW).check(database)) ?? '',
      new RegExp(`the encryption keys ${ids.join(', ')} are not`),
    );
  });

  it('notices when what a key sealed as a test was changed or moved', async () => {
    const { database } = fresh();
    await seal(database, envelopeOf(OLD), 'a');
    await envelopeOf(NEW, OLD).rewrap(database);
    const canaries = await database.read.selectFrom('key_canaries').selectAll().execute();
    assert.deepEqual(canaries.map(({ kek }) => kek).toSorted(), [keyId(OLD), keyId(NEW)].toSorted());
    assert.equal(await envelopeOf(NEW).check(database), undefined);
    const [mine, other] = canaries.toSorted((a) => (a.kek === keyId(NEW) ? -1 : 1));
    const [nonce, sealed] = mine!.sealed.split('.') as [string, string];
    const put = (text: string) =>
      database.write((tx) =>
        tx.updateTable('key_canaries').set({ sealed: text }).where('kek', '=', mine!.kek).execute(),
      );
    for (const text of [
      other!.sealed,
      '',
      `${nonce}.${flip(Buffer.from(sealed, 'base64url'), 9).toString('base64url')}`,
    ]) {
      await put(text);
      const says = await envelopeOf(NEW, OLD).check(database);
      assert.match(
        says ?? '',
        new RegExp(`^Failed to decrypt data: what the encryption key ${keyId(NEW)} sealed as a test`),
      );
      assert.ok(text.length === 0 || !says!.includes(text.slice(0, 10)));
    }
    await put(mine!.sealed);
    assert.equal(await envelopeOf(NEW, OLD).check(database), undefined);
  });
});

function flip(bytes: Buffer, bit: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[bit >> 3]! ^= 1 << (bit & 7);
  return changed;
}

/** Other text that a lenient decoder takes for the same bytes. */
function sameBytes(text: string): string {
  const other = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_']
    .map((last) => text.slice(0, -1) + last)
    .find((one) => one !== text && Buffer.from(one, 'base64url').equals(Buffer.from(text, 'base64url')));
  assert.ok(other, 'choose a value whose length leaves bits over');
  return other;
}

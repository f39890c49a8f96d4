import { createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import { OperatorError } from '../log/operator-error.ts';
import { decrypt, encrypt, freshNonce } from './aes-gcm.ts';
import type { Database, Reader, Transaction } from './database.ts';
import type { KeyRing, RingKey } from './key-ring.ts';
import type { DataKey } from './tables.ts';

/** Where a sealed value stands. It opens nowhere else, so one row cannot be given the secret of another. */
export type SealedPlace = { table: string; column: string; row: string };

/** Thrown with a sentence for the operator when a value does not open, or the key that opens it is not here. */
export class EnvelopeError extends OperatorError {
  override name = 'EnvelopeError';
}

/** A key of the ring or of the database, and how many data keys it has wrapped. */
export type HeldKey = { id: string; isInRing: boolean; dataKeys: number };

const VERSION = 'sp1';
// What every seal is bound to beside its place; it would change with the meaning of the columns.
const SCHEMA = '1';
// The version, the data key, the nonce, and the ciphertext with its tag. The key of the ring is not named: it changes while
// the value stays, and the row of the data key knows it.
const FORM = /^sp1\.(d[\da-f]{20})\.([\w-]{16}\.[\w-]{22,})$/;
// With random nonces, NIST allows 2^32 messages a key. A sixteenth of it leaves room for what is not counted: a reservation
// that rolled back while another process went on counting.
const MOST_SEALS = 2 ** 28;
// So that not every seal waits for the row that counts them.
const BLOCK = 4096;
const BATCH = 100;
const MOST_OPENED = 10_000;
const CANARY = 'this key opens what it has sealed';

/**
 * Seals values for the database and opens them. A key of the ring wraps data keys, and these seal the values: a new key
 * of the ring wraps them anew, and no value has to be touched.
 */
export class Envelope {
  readonly #ring: KeyRing;
  readonly #now: () => number;
  // Only what was read from the database. An id is never used twice, so one that was rolled back is never asked for.
  readonly #opened = new Map<string, KeyObject>();
  #block: { id: string; upTo: number; left: number } | undefined;

  constructor({ ring, now }: { ring: KeyRing; now: () => number }) {
    this.#ring = ring;
    this.#now = now;
  }

  /** Seals for this place. The key that it takes is read inside the transaction, so it is there whenever the value is. */
  async seal(tx: Transaction, place: SealedPlace, plain: Uint8Array): Promise<string> {
    const about = describe(place);
    const row = await this.#reserve(tx);
    return [VERSION, row.id, sealWith(this.#unwrap(row), about, plain)].join('.');
  }

  /** Opens what was sealed for this place. */
  async open(reader: Reader, place: SealedPlace, sealed: string): Promise<Buffer> {
    const about = describe(place);
    const [, id, message] = FORM.exec(sealed) ?? [];
    if (id === undefined || message === undefined) {
      throw new EnvelopeError(unopened(place, 'is not in the form that this version writes'));
    }
    const key = await this.#dataKey(reader, id, place);
    const plain = openWith(key, about, message);
    if (plain === undefined)
      throw new EnvelopeError(unopened(place, 'was changed, or was moved here from another place'));
    return plain;
  }

  /** Whether this ring opens what the database holds; where it does not, a sentence that names the key. */
  async check(database: Database): Promise<string | undefined> {
    const held = await this.keys(database);
    const missing = held.filter(({ isInRing }) => !isInRing).map(({ id }) => id);
    if (missing.length > 0) return missingKeys(missing);
    const canaries = await database.read.selectFrom('key_canaries').select(['kek', 'sealed']).execute();
    const dead = canaries.find(({ kek, sealed }) => {
      const key = this.#ring.find(kek)?.key;
      return key !== undefined && openWith(key, canaryOf(kek), sealed)?.toString() !== CANARY;
    });
    return (
      dead &&
      `Failed to decrypt data: what the encryption key ${dead.kek} sealed as a test was changed in the database; restore the table key_canaries from a backup.`
    );
  }

  /** The keys of the ring, and those that are not in it but should be; the primary first. */
  async keys(database: Database): Promise<HeldKey[]> {
    const rows = await database.read
      .selectFrom('data_keys')
      .select(({ fn }) => ['kek', fn.countAll<number>().as('count')])
      .groupBy('kek')
      .orderBy('kek')
      .execute();
    const counts = new Map(rows.map(({ kek, count }) => [kek, Number(count)]));
    const ids = new Set([...this.#ring.keys.map(({ id }) => id), ...counts.keys()]);
    return Array.from(ids, (id) => ({
      id,
      isInRing: this.#ring.find(id) !== undefined,
      dataKeys: counts.get(id) ?? 0,
    }));
  }

  /**
   * Wraps every data key with the primary of the ring, and gives how many it did. A batch is done whole or not at all, so
   * it can be killed and begun again; a row that another process wrapped first is left to it.
   */
  async rewrap(database: Database, onBatch: (done: number, left: number) => void = () => {}): Promise<number> {
    const others = this.#ring.keys.slice(1).map(({ id }) => id);
    let done = 0;
    for (let after = ''; others.length > 0;) {
      const batch = await database.write(async (tx) => {
        const rows = await tx
          .selectFrom('data_keys')
          .selectAll()
          .where('kek', 'in', others)
          .where('id', '>', after)
          .orderBy('id')
          .limit(BATCH)
          .execute();
        await this.#putCanary(tx);
        let wrapped = 0;
        for (const row of rows) wrapped += await this.#rewrap(tx, row);
        return { wrapped, last: rows.at(-1)?.id };
      });
      if (batch.last === undefined) break;
      after = batch.last;
      done += batch.wrapped;
      const left = (await this.keys(database)).filter(({ id }) => others.includes(id));
      onBatch(
        done,
        left.reduce((sum, { dataKeys }) => sum + dataKeys, 0),
      );
    }
    return done;
  }

  async #rewrap(tx: Transaction, row: DataKey): Promise<number> {
    const { primary } = this.#ring;
    const wrapped = sealWith(primary.key, wrappedOf(row.id), this.#unwrap(row).export());
    const { numUpdatedRows } = await tx
      .updateTable('data_keys')
      .set({ kek: primary.id, wrapped })
      .where('id', '=', row.id)
      .where('kek', '=', row.kek)
      .executeTakeFirst();
    return Number(numUpdatedRows);
  }

  // A data key that this transaction sees, with one seal of it counted. Whatever became of our own reservation, the row
  // tells: when it counts less than we were given, the reservation was rolled back, and a new one is made.
  async #reserve(tx: Transaction): Promise<DataKey> {
    for (;;) {
      const row = await tx
        .selectFrom('data_keys')
        .selectAll()
        .where('uses', '<', MOST_SEALS)
        .orderBy('created_at', 'desc')
        .orderBy('id', 'desc')
        .limit(1)
        .executeTakeFirst();
      if (row === undefined) {
        await this.#makeDataKey(tx);
        continue;
      }
      const block = this.#block;
      if (block?.id === row.id && block.left > 0 && row.uses >= block.upTo) {
        block.left--;
        return row;
      }
      const reserved = await tx
        .updateTable('data_keys')
        .set(({ eb }) => ({ uses: eb('uses', '+', BLOCK) }))
        .where('id', '=', row.id)
        .where('uses', '<', MOST_SEALS)
        .returning('uses')
        .executeTakeFirst();
      if (reserved === undefined) continue;
      this.#block = { id: row.id, upTo: reserved.uses, left: BLOCK - 1 };
      return row;
    }
  }

  async #makeDataKey(tx: Transaction): Promise<void> {
    const { primary } = this.#ring;
    const id = `d${randomBytes(10).toString('hex')}`;
    const wrapped = sealWith(primary.key, wrappedOf(id), randomBytes(32));
    await tx
      .insertInto('data_keys')
      .values({ id, kek: primary.id, wrapped, created_at: this.#now(), uses: 0 })
      .execute();
    await this.#putCanary(tx);
  }

  async #putCanary(tx: Transaction): Promise<void> {
    const { id, key }: RingKey = this.#ring.primary;
    const sealed = sealWith(key, canaryOf(id), Buffer.from(CANARY));
    await tx
      .insertInto('key_canaries')
      .values({ kek: id, sealed, created_at: this.#now() })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }

  async #dataKey(reader: Reader, id: string, place: SealedPlace): Promise<KeyObject> {
    const known = this.#opened.get(id);
    if (known !== undefined) return known;
    const row = await reader.selectFrom('data_keys').selectAll().where('id', '=', id).executeTakeFirst();
    if (row === undefined)
      throw new EnvelopeError(unopened(place, 'was sealed with a data key that is not in this database'));
    const key = this.#unwrap(row);
    if (this.#opened.size === MOST_OPENED) this.#opened.delete(this.#opened.keys().next().value!);
    this.#opened.set(id, key);
    return key;
  }

  #unwrap({ id, kek, wrapped }: DataKey): KeyObject {
    const key = this.#ring.find(kek)?.key;
    if (key === undefined) throw new EnvelopeError(missingKeys([kek]));
    const bytes = openWith(key, wrappedOf(id), wrapped);
    if (bytes === undefined) {
      throw new EnvelopeError(
        `Failed to decrypt data: the data key ${id} was changed in the database; restore the table data_keys from a backup.`,
      );
    }
    return createSecretKey(bytes);
  }
}

function sealWith(key: KeyObject, about: Buffer, plain: Uint8Array): string {
  const nonce = freshNonce();
  return `${nonce.toString('base64url')}.${encrypt(key, nonce, about, plain).toString('base64url')}`;
}

function openWith(key: KeyObject, about: Buffer, text: string): Buffer | undefined {
  const [nonce, encrypted, ...rest] = text.split('.').map(decode);
  if (nonce === undefined || encrypted === undefined || rest.length > 0) return undefined;
  return decrypt(key, nonce, about, encrypted);
}

// One spelling only: Buffer.from passes over what is no base64, and over the last bits of the last character.
function decode(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
}

function describe({ table, column, row }: SealedPlace): Buffer {
  const parts = [table, column, row];
  // Otherwise two places could have the same description.
  if (parts.some((part) => part === '' || part.includes('|'))) {
    throw new TypeError('the parts of a place are not empty, and have no | in them');
  }
  return Buffer.from([...parts, SCHEMA].join('|'));
}

const wrappedOf = (id: string) => describe({ table: 'data_keys', column: 'wrapped', row: id });
const canaryOf = (kek: string) => describe({ table: 'key_canaries', column: 'sealed', row: kek });

function unopened({ table, column, row }: SealedPlace, why: string): string {
  return `Failed to decrypt data: ${table}.${column} of ${row} ${why}; restore it from a backup, or remove it and have it made anew.`;
}

function missingKeys(ids: readonly string[]): string {
  const [keys, are, them] = ids.length === 1 ? ['key', 'is', 'it'] : ['keys', 'are', 'them'];
  return `Failed to decrypt data: the encryption ${keys} ${ids.join(', ')} ${are} not in the key ring, but the database needs ${them}; add ${them} to encryption.keys (ENCRYPTION_KEY) behind the first, or put encryption.key back into the data folder, and start again.`;
}

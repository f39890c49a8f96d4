import { ApiError } from '@sallyport/protocol/errors.ts';
import { HEADER } from '@sallyport/protocol/headers.ts';
import { ed25519PublicKey, hmacKey, type VerifyingKey } from '@sallyport/protocol/keys.ts';
import type { Database, Reader } from '../store/database.ts';
import { findKeys, readCounter, type KeyOfDevice } from '../store/devices.ts';
import { storeUnavailable } from '../store/unavailable.ts';
import { CloneWatch } from './clone-watch.ts';
import type { KeyRow } from './client-keys.ts';

type OpenSealed = (
  reader: Reader,
  place: { table: string; column: string; row: string },
  sealed: string,
) => Promise<Buffer>;

type Settings = {
  database: Database;
  open: OpenSealed;
  now: () => number;
  elapsedMs: () => number;
  /** Told of the first signature of a key, before that request goes on. */
  onFirstUse: (key: KeyOfDevice, requestId: string) => Promise<void>;
  /** Told, once an hour for a device at most, that two machines seem to use its key. */
  onCloneSign: (deviceId: string, why: string, requestId: string) => Promise<void>;
  warn: (what: string, error: unknown) => void;
};

/** What is remembered of a key id: its row, or that there is none, and as of which change of the identities. */
type Entry = { asOf: number; found: KeyOfDevice | undefined; row: KeyRow | undefined };

const DEVICE_KEYID = /^spk_[0-9a-hjkmnp-tv-z]{26}$/;

/** How often the identities are read again. What is revoked on one instance is revoked on all within this and a moment. */
export const REFRESH_MS = 2_000;

// Without the database nobody can revoke anything either, so what is known may serve a little longer; but not for ever.
const LONGEST_BLIND_MS = 30_000;
const MOST_UNKNOWN = 10_000;
const AT_ONCE = 500;

/** The keys of devices: read when they are first used, and again whenever something about identities has changed. */
export class DeviceKeys {
  readonly #settings: Settings;
  readonly #entries = new Map<string, Entry>();
  readonly #flights = new Map<string, Promise<KeyRow | undefined>>();
  readonly #clones: CloneWatch;
  #unknown = 0;
  #revision = -1;
  #minEpoch = 0;
  #seenMs: number;
  #timer: NodeJS.Timeout | undefined;
  #refreshing: Promise<void> | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#seenMs = settings.elapsedMs();
    this.#clones = new CloneWatch(settings.elapsedMs);
  }

  /** Begins to read again and again; `onRefresh` is told each time that what is known here is of this moment. */
  watch(onRefresh: () => void): void {
    this.#timer = setInterval(() => {
      this.#refreshing ??= this.refresh()
        .then(onRefresh)
        .catch((error: unknown) => this.#settings.warn('the identities could not be read again', error))
        .finally(() => (this.#refreshing = undefined));
    }, REFRESH_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#refreshing;
  }

  /** The row of a key id. Where it is not known yet, the database is asked, once for all who ask meanwhile. */
  find(keyid: string): KeyRow | undefined | Promise<KeyRow | undefined> {
    if (!DEVICE_KEYID.test(keyid)) return undefined;
    if (this.blindMs > LONGEST_BLIND_MS) {
      throw storeUnavailable(new Error('the identities could not be read for too long'));
    }
    const entry = this.#entries.get(keyid);
    if (entry !== undefined) return entry.row;
    const flight = this.#flights.get(keyid) ?? this.#load(keyid).finally(() => this.#flights.delete(keyid));
    this.#flights.set(keyid, flight);
    return flight;
  }

  /** Why a key that is known here may not be used now, if it may not: for calls that began while it could. */
  refusalOf(keyid: string): ApiError | undefined {
    const found = this.#entries.get(keyid)?.found;
    return found === undefined ? undefined : this.#refusal(found, this.#settings.now());
  }

  /** For how long the database has not been heard. */
  get blindMs(): number {
    return this.#settings.elapsedMs() - this.#seenMs;
  }

  /** Reads again what is known here, if anything about identities has changed since. */
  async refresh(): Promise<void> {
    const { database, elapsedMs } = this.#settings;
    const startedMs = elapsedMs();
    const revision = await readCounter(database.read, 'identity_revision');
    if (revision === this.#revision) {
      this.#seenMs = startedMs;
      return;
    }
    this.#minEpoch = await readCounter(database.read, 'min_key_epoch');
    const old = [...this.#entries].filter(([, { asOf }]) => asOf < revision);
    for (let from = 0; from < old.length; from += AT_ONCE) {
      const ids = old.slice(from, from + AT_ONCE).map(([keyid]) => keyid);
      const found = new Map((await findKeys(database.read, ids)).map((one) => [one.key.keyid, one]));
      for (const keyid of ids) {
        const one = found.get(keyid);
        if (one === undefined) this.#forget(keyid);
        else this.#keep(keyid, { asOf: revision, found: one, row: await this.#rowOf(one) });
      }
    }
    this.#revision = revision;
    this.#seenMs = startedMs;
  }

  async #load(keyid: string): Promise<KeyRow | undefined> {
    const { read } = this.#settings.database;
    // The revision first: what changes after it is read again by the next refresh, even if it was seen here already.
    const asOf = await readCounter(read, 'identity_revision');
    const minEpoch = await readCounter(read, 'min_key_epoch');
    const [found] = await findKeys(read, [keyid]);
    const row = found && (await this.#rowOf(found));
    this.#minEpoch = Math.max(this.#minEpoch, minEpoch);
    this.#keep(keyid, { asOf, found, row });
    return row;
  }

  #keep(keyid: string, entry: Entry): void {
    this.#forget(keyid);
    if (entry.found === undefined && ++this.#unknown > MOST_UNKNOWN) this.#forgetUnknown();
    this.#entries.set(keyid, entry);
  }

  #forget(keyid: string): void {
    const entry = this.#entries.get(keyid);
    if (entry !== undefined && entry.found === undefined) this.#unknown--;
    this.#entries.delete(keyid);
  }

  #forgetUnknown(): void {
    for (const [keyid, { found }] of this.#entries) if (found === undefined) this.#entries.delete(keyid);
    this.#unknown = 1;
  }

  async #rowOf(found: KeyOfDevice): Promise<KeyRow> {
    const { key, device } = found;
    let isConfirmed = key.first_used_at !== null && device.confirmed_at !== null;
    const asksForRotation = device.rotate_asked_at !== null && device.rotate_asked_at > key.created_at;
    return {
      key: await this.#verifyingKey(found),
      caller: {
        kind: 'device',
        name: device.id,
        keyid: key.keyid,
        products: JSON.parse(device.products) as string[],
      },
      admit: (nowMs) => {
        const refusal = this.#refusal(found, nowMs);
        if (refusal === undefined) return;
        if (refusal.code === 'key_retired')
          this.#tellOfClone(device.id, 'a key was used that its device has replaced', '');
        throw refusal;
      },
      heard: ({ fields, answerHeaders, requestId }) => {
        if (asksForRotation) answerHeaders.push(HEADER.rotate, '1');
        const why = this.#clones.see(device, fields.get(HEADER.install), fields.get(HEADER.boot));
        if (why !== undefined) this.#tellOfClone(device.id, why, requestId);
        if (isConfirmed) return;
        return this.#settings.onFirstUse(found, requestId).then(() => void (isConfirmed = true));
      },
    };
  }

  #tellOfClone(deviceId: string, why: string, requestId: string): void {
    if (!this.#clones.mayTell(deviceId)) return;
    this.#settings
      .onCloneSign(deviceId, why, requestId)
      .catch((error: unknown) => this.#settings.warn('a sign of a clone could not be written down', error));
  }

  async #verifyingKey({ key }: KeyOfDevice): Promise<VerifyingKey> {
    if (key.public_key !== null) return ed25519PublicKey(Buffer.from(key.public_key, 'base64url'));
    const place = { table: 'device_keys', column: 'secret_sealed', row: key.keyid };
    return hmacKey(await this.#settings.open(this.#settings.database.read, place, key.secret_sealed!));
  }

  #refusal({ key, device }: KeyOfDevice, nowMs: number): ApiError | undefined {
    if (device.revoked_at !== null || key.epoch < this.#minEpoch) return new ApiError('device_revoked');
    if (key.state === 'gone' || (key.not_after !== null && key.not_after <= nowMs)) return new ApiError('key_retired');
    return undefined;
  }
}

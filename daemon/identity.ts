import { pskOf, readCode, type DeviceDescription } from '@sallyport/protocol/enrolment.ts';
import type { Algorithm, SigningKey } from '@sallyport/protocol/keys.ts';
import { IdentityError } from './identity-error.ts';
import {
  readState,
  writeState,
  type ActiveKey,
  type KeptState,
  type Pending,
  type StateFile,
} from './identity-state.ts';
import {
  askToEnrol,
  askToRotate,
  askWhoWeAre,
  keyOfItem,
  newHalf,
  packHalf,
  unpackHalf,
  type Known,
  type NewKey,
} from './key-exchange.ts';
import { readBrokerUrl, type OpenUplink } from './uplink.ts';
import { uplinkErrorOf } from './uplink-error.ts';

// Who this desktop is to its broker. Whatever is done here may be cut off at any step, by a crash or by a lost answer, and
// begins again at the next one. Four rules make that so:
//   1. A key is in the keychain, and was read back, before anybody hears of it.
//   2. state.json names only keys that are in the keychain. It is replaced whole, once for each step.
//   3. Trying again sends the same key, and the broker gives the same answer.
//   4. A key counts when a request that it signed was answered; the one before it is kept until then.
// Items whose names are listed as leftovers may be there or not; they are deleted whenever there is time.

/** Who signs for this desktop. */
export type Identity = {
  readonly state: 'none' | 'pending' | 'active' | 'rotating' | 'locked';
  readonly brokerUrl?: string | undefined;
  readonly deviceId?: string | undefined;
  readonly installId: string;
  /** Throws IdentityError (sentence, exit code) when there is nothing to sign with. */
  signingKey(): Promise<SigningKey>;
};

/** What there is to know of a device whose key works. */
export type Enrolled = { brokerUrl: string; keyid: string } & Known;

/** An identity with what changes it. Each of these may be called again after whatever befell it. */
export type OpenIdentity = Identity & {
  readonly keyid?: string | undefined;
  /** When the broker made the key that signs; by it one knows when to ask for the next. */
  readonly keyCreatedAt?: string | undefined;
  /** Finishes what was begun before. */
  resume(): Promise<void>;
  enrol(asked: { url: string; code: string; algorithm?: Algorithm }): Promise<Enrolled>;
  rotate(): Promise<Enrolled>;
  /** Deletes every key; the broker is not told. */
  forget(): Promise<void>;
};

/** What identity needs of a keychain. */
export type KeyItems = {
  readonly backend: string;
  get(name: string): Promise<Buffer | undefined>;
  set(name: string, value: Buffer): Promise<void>;
  delete(name: string): Promise<void>;
};

type Dialled = { brokerUrl: string; installId: string; signingKey: () => Promise<SigningKey> };

export type IdentityParts = {
  file: StateFile;
  /** The id of this installation, where it had to be known before; otherwise one is made. */
  installId?: string;
  keychain: KeyItems;
  dial: (dialled: Dialled) => OpenUplink;
  device: Omit<DeviceDescription, 'install_id'>;
  random: (bytes: number) => Buffer;
  /** How long one exchange with the broker may take. */
  exchangeMs?: number;
};

// Longer than any answer takes, and short enough for a person who waits at a prompt.
const EXCHANGE_MS = 30_000;

// After these the same request can never succeed, and what was begun is given up. After anything else it is tried again.
const FINAL_REFUSALS = new Set([
  'invite_unknown',
  'invite_expired',
  'invite_used',
  'device_revoked',
  'device_required',
  'key_known',
  'key_retired',
  'field_invalid',
  'rotation_proof',
  'rotation_underway',
  'signature_invalid',
]);

/** Opens the identity of this desktop; nothing is sent, and no key is read yet. */
export function openIdentity(parts: IdentityParts): OpenIdentity {
  const { file, keychain, dial, device, random, exchangeMs = EXCHANGE_MS } = parts;
  let kept = readState(file) ?? begin();
  let signing: Promise<SigningKey> | undefined;
  let isLocked = false;
  let last: Promise<unknown> = Promise.resolve();

  // The keychain keeps the items of each installation apart.
  const pendingItem = 'pending';
  const itemOf = (keyid: string) => keyid.replace('_', '-');

  function begin(): KeptState {
    const installId = parts.installId ?? `inst_${random(16).toString('hex')}`;
    const first: KeptState = { version: 1, installId, keychain: keychain.backend, leftovers: [] };
    writeState(file, first);
    return first;
  }

  function keep(next: KeptState): void {
    writeState(file, next);
    kept = next;
  }

  // One after the other: two that rotate at once would each throw away the half of the other.
  function inTurn<Value>(act: () => Promise<Value>): Promise<Value> {
    const turn = last.then(() => {
      readAgain();
      return act();
    });
    last = turn.catch(() => undefined);
    return turn;
  }

  // A command in a process of its own may have been here since.
  function readAgain(): void {
    const { active } = kept;
    kept = readState(file) ?? kept;
    if (kept.active?.keyid !== active?.keyid) signing = undefined;
  }

  async function readItem(name: string): Promise<Buffer | undefined> {
    checkKeychain();
    try {
      const value = await keychain.get(name);
      isLocked = false;
      return value;
    } catch (cause) {
      isLocked = true;
      throw new IdentityError('locked', { why: reasonOf(cause) }, cause);
    }
  }

  // Another keychain would not see our items, and would look like one that was emptied.
  function checkKeychain(): void {
    if (kept.keychain === keychain.backend) return;
    if (kept.active === undefined && kept.pending === undefined && kept.leftovers.length === 0) {
      return keep({ ...kept, keychain: keychain.backend });
    }
    isLocked = true;
    throw new IdentityError('other_keychain', { kept: kept.keychain, keychain: keychain.backend });
  }

  async function storeItem(name: string, value: Buffer, whenNot: 'keychain_failed' | 'keychain_full'): Promise<void> {
    checkKeychain();
    let found: Buffer | undefined;
    try {
      await keychain.set(name, value);
      found = await keychain.get(name);
    } catch (cause) {
      throw new IdentityError(whenNot, { why: reasonOf(cause) }, cause);
    }
    if (found !== undefined && found.equals(value)) return;
    await keychain.delete(name);
    throw new IdentityError(whenNot, { why: 'what it gave back was something else' });
  }

  // Nobody waits for it: what cannot be deleted now stays on the list.
  async function sweep(): Promise<void> {
    if (kept.leftovers.length === 0) return;
    const needed = [kept.active?.keyid, kept.pending?.made?.keyid].map((keyid) => keyid && itemOf(keyid));
    const remaining: string[] = [];
    for (const name of kept.leftovers) {
      if (needed.includes(name) || (name === pendingItem && kept.pending !== undefined)) continue;
      await keychain.delete(name).catch(() => remaining.push(name));
    }
    keep({ ...kept, leftovers: remaining });
  }

  function abandonPending(): void {
    const { pending, ...rest } = kept;
    if (pending === undefined) return;
    const items = [pendingItem, ...(pending.made === undefined ? [] : [itemOf(pending.made.keyid)])];
    keep({ ...rest, leftovers: [...new Set([...kept.leftovers, ...items])] });
  }

  async function loadKey({ keyid, algorithm }: { keyid: string; algorithm: Algorithm }) {
    const item = await readItem(itemOf(keyid));
    return item && keyOfItem(item, keyid, algorithm);
  }

  async function loadHalf({ algorithm, publicKey }: Pending) {
    const item = await readItem(pendingItem);
    return item && unpackHalf(item, algorithm, publicKey);
  }

  async function signingKey(): Promise<SigningKey> {
    const { active } = kept;
    if (active === undefined) throw new IdentityError(kept.pending ? 'enrolment_pending' : 'not_enrolled');
    // Asked once for however many requests: a keychain takes milliseconds, and some of them a prompt.
    signing ??= loadKey(active).then((key) => {
      if (key !== undefined) return key;
      isLocked = true;
      throw new IdentityError('item_gone', { keychain: keychain.backend });
    });
    const asked = signing;
    try {
      return await asked;
    } catch (error) {
      if (signing === asked) signing = undefined;
      throw error;
    }
  }

  async function talk<Value>(
    brokerUrl: string,
    signer: () => Promise<SigningKey>,
    act: (conversation: { line: OpenUplink; host: string; signal: AbortSignal }) => Promise<Value>,
  ): Promise<Value> {
    const line = dial({ brokerUrl, installId: kept.installId, signingKey: signer });
    const { host } = new URL(brokerUrl);
    const signal = AbortSignal.timeout(exchangeMs);
    try {
      return await act({ line, host, signal });
    } catch (error) {
      if (signal.aborted) throw uplinkErrorOf(signal.reason, { host, sent: true });
      if (isFinal(error)) {
        abandonPending();
        await sweep();
      }
      throw error;
    } finally {
      line.close();
    }
  }

  async function start(pending: Pending, item: Buffer): Promise<void> {
    await storeItem(pendingItem, item, 'keychain_failed');
    keep({ ...kept, pending, leftovers: kept.leftovers.filter((name) => name !== pendingItem) });
  }

  // The item's name is written down first, as one that may be deleted: a crash in between leaves nothing behind for good.
  async function storeMade(pending: Pending, { keyid, material }: NewKey, deviceId: string): Promise<void> {
    keep({ ...kept, leftovers: [...new Set([...kept.leftovers, itemOf(keyid)])] });
    await storeItem(itemOf(keyid), material, 'keychain_full');
    keep({
      ...kept,
      pending: { ...pending, made: { keyid, deviceId } },
      leftovers: kept.leftovers.filter((name) => name !== itemOf(keyid)),
    });
  }

  async function makeKey(pending: Pending): Promise<void> {
    const found = await loadHalf(pending);
    if (found === undefined) {
      abandonPending();
      throw new IdentityError('half_gone', { keychain: keychain.backend });
    }
    const { half, psk } = found;
    if (pending.purpose === 'enrolment') {
      const asked = { half, psk, codeId: pending.codeId!, device: { ...device, install_id: kept.installId } };
      const made = await talk(pending.brokerUrl, signingKey, (conversation) => askToEnrol(conversation, asked));
      return storeMade(pending, made, made.deviceId);
    }
    const { keyid, algorithm, deviceId } = kept.active!;
    const old = await signingKey();
    const material = algorithm === 'hmac-sha256' ? old.key.export() : Buffer.alloc(0);
    const made = await talk(
      pending.brokerUrl,
      () => Promise.resolve(old),
      (conversation) => askToRotate(conversation, half, { keyid, algorithm, material }),
    );
    return storeMade(pending, made, deviceId);
  }

  async function finish(): Promise<Enrolled> {
    if (kept.pending!.made === undefined) await makeKey(kept.pending!);
    const pending = kept.pending!;
    const { keyid, deviceId } = pending.made!;
    const key = await loadKey({ keyid, algorithm: pending.algorithm });
    if (key === undefined) {
      // It was there when its name was written down. The broker gives the same answer again, as long as it was not used.
      const before = { ...pending };
      delete before.made;
      keep({ ...kept, pending: before });
      throw new IdentityError('half_gone', { keychain: keychain.backend });
    }
    const known = await talk(
      pending.brokerUrl,
      () => Promise.resolve(key),
      (conversation) => askWhoWeAre(conversation, keyid),
    );
    const { host } = new URL(pending.brokerUrl);
    if (known.deviceId !== deviceId) throw new IdentityError('broker_unproven', { host });
    const { brokerUrl, algorithm } = pending;
    const active: ActiveKey = { keyid, algorithm, brokerUrl, deviceId, createdAt: known.keyCreatedAt };
    const replaced = kept.active === undefined ? [] : [itemOf(kept.active.keyid)];
    const next: KeptState = { ...kept, active, leftovers: [...new Set([...kept.leftovers, pendingItem, ...replaced])] };
    delete next.pending;
    keep(next);
    signing = Promise.resolve(key);
    await sweep();
    return { brokerUrl, keyid, ...known };
  }

  async function enrol({
    url,
    code,
    algorithm = 'hmac-sha256',
  }: {
    url: string;
    code: string;
    algorithm?: Algorithm;
  }): Promise<Enrolled> {
    const brokerUrl = readBrokerUrl(url).origin;
    const read = readCode(code);
    if (read === undefined) throw new IdentityError('code_malformed');
    checkKeychain();
    await sweep();
    if (kept.pending !== undefined) {
      const before = await finishBefore(kept.pending, brokerUrl, pskOf(read));
      if (before !== undefined) return before;
    }
    const half = newHalf(algorithm);
    const publicKey = half.publicKey.toString('base64url');
    const pending: Pending = { purpose: 'enrolment', brokerUrl, algorithm, publicKey, codeId: read.id };
    await start(pending, packHalf(half, pskOf(read)));
    return finish();
  }

  // What was begun before may have succeeded at the broker, its answer lost: then its code is spent, and this one need not be.
  async function finishBefore(pending: Pending, brokerUrl: string, psk: Buffer): Promise<Enrolled | undefined> {
    if (pending.purpose === 'enrolment' && pending.brokerUrl !== brokerUrl) {
      abandonPending();
      return undefined;
    }
    const isSameCode = (await loadHalf(pending))?.psk.equals(psk) ?? false;
    try {
      const enrolled = await finish();
      return pending.purpose === 'enrolment' ? enrolled : undefined;
    } catch (error) {
      // The same code gets the same refusal; another one is a new beginning.
      if (kept.pending === undefined && !isSameCode) return undefined;
      throw error;
    }
  }

  async function rotate(): Promise<Enrolled> {
    await signingKey();
    const { active, pending } = kept;
    if (pending?.purpose === 'enrolment') throw new IdentityError('enrolment_pending');
    if (pending === undefined) {
      const { algorithm, brokerUrl } = active!;
      const half = newHalf(algorithm);
      const publicKey = half.publicKey.toString('base64url');
      await start({ purpose: 'rotation', brokerUrl, algorithm, publicKey }, packHalf(half));
    }
    return finish();
  }

  async function resume(): Promise<void> {
    checkKeychain();
    await sweep();
    if (kept.active !== undefined) await signingKey();
    if (kept.pending !== undefined) await finish();
  }

  async function forget(): Promise<void> {
    checkKeychain();
    abandonPending();
    const { active, ...rest } = kept;
    const items = active === undefined ? [] : [itemOf(active.keyid)];
    keep({ ...rest, leftovers: [...new Set([...kept.leftovers, ...items])] });
    signing = undefined;
    isLocked = false;
    await sweep();
    if (kept.leftovers.length > 0) throw new IdentityError('not_deleted', { keychain: keychain.backend });
  }

  return {
    get state() {
      // A key that is in memory goes on signing, whatever became of the keychain.
      if (isLocked && signing === undefined) return 'locked';
      if (kept.active === undefined) return kept.pending === undefined ? 'none' : 'pending';
      return kept.pending?.purpose === 'rotation' ? 'rotating' : 'active';
    },
    get installId() {
      return kept.installId;
    },
    get brokerUrl() {
      return (kept.active ?? kept.pending)?.brokerUrl;
    },
    get deviceId() {
      return kept.active?.deviceId;
    },
    get keyid() {
      return kept.active?.keyid;
    },
    get keyCreatedAt() {
      return kept.active?.createdAt;
    },
    signingKey,
    resume: () => inTurn(resume),
    enrol: (asked) => inTurn(() => enrol(asked)),
    rotate: () => inTurn(rotate),
    forget: () => inTurn(forget),
  };
}

function isFinal(error: unknown): boolean {
  return error instanceof IdentityError && error.brokerCode !== undefined && FINAL_REFUSALS.has(error.brokerCode);
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : 'no reason given';
}

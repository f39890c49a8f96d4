import { generateKeyPairSync, randomInt } from 'node:crypto';
import type { Transaction } from '../store/database.ts';
import type { AuditEntry } from '../store/tables.ts';
import { signCheckpoint } from './checkpoint.ts';
import { beginningOf, hashOfEntry } from './entry.ts';
import { writePublicKey } from './signing-key.ts';

const pick = <Value>(values: readonly Value[]): Value => values[randomInt(values.length)]!;
/** Another value of the same kind: near the old one, or nothing like it. */
const otherText = (text: string) => pick([`${text} `, text.slice(1) || 'x', `${text}\u200b`, text === '' ? 'y' : '']);
const otherNumber = (number: number) => number + pick([-1, 1, 1000, -number - 7]);
const otherHash = (hash: string) => {
  const place = randomInt(hash.length);
  return hash.slice(0, place) + (hash[place] === 'a' ? 'b' : 'a') + hash.slice(place + 1);
};

const someEntry = async (tx: Transaction) => pick(await tx.selectFrom('audit_entries').selectAll().execute());
const someChain = async (tx: Transaction) => pick(await tx.selectFrom('audit_chains').selectAll().execute());
const someCheckpoint = async (tx: Transaction) => pick(await tx.selectFrom('audit_checkpoints').selectAll().execute());

const setEntry = ({ chain, n }: AuditEntry, tx: Transaction, set: Partial<AuditEntry>) =>
  tx.updateTable('audit_entries').set(set).where('chain', '=', chain).where('n', '=', n).execute();
const removeEntry = ({ chain, n }: AuditEntry, tx: Transaction) =>
  tx.deleteFrom('audit_entries').where('chain', '=', chain).where('n', '=', n).execute();

/** The chain as if nobody had touched it: every hash made anew, and the row that counts it. What is left are checkpoints. */
export async function makeConsistent(tx: Transaction, chain: string): Promise<void> {
  const row = await tx.selectFrom('audit_chains').selectAll().where('id', '=', chain).executeTakeFirstOrThrow();
  const rows = await tx.selectFrom('audit_entries').selectAll().where('chain', '=', chain).orderBy('n').execute();
  await tx.deleteFrom('audit_entries').where('chain', '=', chain).execute();
  let head = beginningOf(row);
  let n = 0;
  for (const { hash: _, ...entry } of rows) {
    const moved = { ...entry, n: ++n };
    head = hashOfEntry(head, moved);
    await tx
      .insertInto('audit_entries')
      .values({ ...moved, hash: head })
      .execute();
  }
  await tx.updateTable('audit_chains').set({ length: n, head }).where('id', '=', chain).execute();
}

/** What someone with the database in hand may do to it. Each leaves something that differs from what was recorded. */
export const EDITS: Record<string, (tx: Transaction) => Promise<unknown>> = {
  async 'changes an entry'(tx) {
    const entry = await someEntry(tx);
    const column = pick(['actor', 'action', 'target', 'details'] as const);
    await setEntry(entry, tx, { [column]: otherText(entry[column]) });
  },
  async 'changes when it was'(tx) {
    const entry = await someEntry(tx);
    await setEntry(entry, tx, { at: otherNumber(entry.at) });
  },
  async 'changes whose request it was'(tx) {
    const entry = await someEntry(tx);
    await setEntry(entry, tx, { request_id: pick([null, '', 'req_2']) });
  },
  async 'changes a hash'(tx) {
    const entry = await someEntry(tx);
    await setEntry(entry, tx, { hash: otherHash(entry.hash) });
  },
  async 'changes an entry, and its hash with it'(tx) {
    const entry = await someEntry(tx);
    const before = await tx
      .selectFrom('audit_entries')
      .select('hash')
      .where('chain', '=', entry.chain)
      .where('n', '=', entry.n - 1)
      .executeTakeFirst();
    const edited = { ...entry, target: otherText(entry.target) };
    await setEntry(entry, tx, { target: edited.target, hash: hashOfEntry(before?.hash ?? '', edited) });
  },
  async 'changes an entry, and every hash after it'(tx) {
    const entry = await someEntry(tx);
    await setEntry(entry, tx, { actor: otherText(entry.actor) });
    await makeConsistent(tx, entry.chain);
  },
  async 'deletes an entry'(tx) {
    await removeEntry(await someEntry(tx), tx);
  },
  async 'deletes an entry, and closes the gap'(tx) {
    const entry = await someEntry(tx);
    await removeEntry(entry, tx);
    await makeConsistent(tx, entry.chain);
  },
  async 'inserts an entry'(tx) {
    const entry = await someEntry(tx);
    const { length, head } = await tx
      .selectFrom('audit_chains')
      .selectAll()
      .where('id', '=', entry.chain)
      .executeTakeFirstOrThrow();
    const added = { ...entry, n: pick([length + 1, length + 2, 0, -1]) };
    await tx
      .insertInto('audit_entries')
      .values({ ...added, hash: pick([entry.hash, hashOfEntry(head, added)]) })
      .execute();
  },
  async 'inserts an entry in between, and makes room for it'(tx) {
    const entry = await someEntry(tx);
    await tx
      .updateTable('audit_entries')
      .set(({ eb }) => ({ n: eb('n', '+', 1000) }))
      .where('chain', '=', entry.chain)
      .where('n', '>=', entry.n)
      .execute();
    await tx
      .insertInto('audit_entries')
      .values({ ...entry, target: 'never' })
      .execute();
    await makeConsistent(tx, entry.chain);
  },
  async 'swaps two entries'(tx) {
    const rows = await tx.selectFrom('audit_entries').selectAll().execute();
    const one = pick(rows);
    const other = pick(rows.filter(({ chain, n }) => chain === one.chain && n !== one.n));
    await setEntry(one, tx, { n: -9 });
    await setEntry(other, tx, { n: one.n });
    await setEntry({ ...one, n: -9 }, tx, { n: other.n });
    if (randomInt(2) === 0) await makeConsistent(tx, one.chain);
  },
  async 'cuts off the end'(tx) {
    const { chain, n } = await someEntry(tx);
    await tx.deleteFrom('audit_entries').where('chain', '=', chain).where('n', '>=', n).execute();
    if (randomInt(2) === 0) await makeConsistent(tx, chain);
  },
  async 'moves an entry to another chain'(tx) {
    const entry = await someEntry(tx);
    const chains = await tx.selectFrom('audit_chains').selectAll().where('id', '!=', entry.chain).execute();
    const { id, length } = pick(chains);
    await setEntry(entry, tx, { chain: id, n: length + 1 });
    if (randomInt(2) === 0) {
      await makeConsistent(tx, id);
      await makeConsistent(tx, entry.chain);
    }
  },
  async 'gives an entry another number'(tx) {
    const entry = await someEntry(tx);
    await setEntry(entry, tx, { n: pick([0, -entry.n, entry.n + 100, 2 ** 52]) });
  },
  async 'takes a chain away whole'(tx) {
    const { id } = await someChain(tx);
    await tx.deleteFrom('audit_entries').where('chain', '=', id).execute();
    await tx.deleteFrom('audit_chains').where('id', '=', id).execute();
  },
  async 'takes the row of a chain away'(tx) {
    const { id } = await someChain(tx);
    await tx.deleteFrom('audit_chains').where('id', '=', id).execute();
  },
  async 'adds a chain that holds nothing'(tx) {
    await tx.insertInto('audit_chains').values({ id: 'broker-0', started_at: 1, length: 0, head: '' }).execute();
  },
  async 'changes the row of a chain'(tx) {
    const { id, length, head, started_at } = await someChain(tx);
    const set = pick([
      { length: otherNumber(length) },
      { head: otherHash(head) },
      { started_at: otherNumber(started_at) },
      { id: otherText(id) },
    ]);
    await tx.updateTable('audit_chains').set(set).where('id', '=', id).execute();
  },
  async 'changes a checkpoint'(tx) {
    const checkpoint = await someCheckpoint(tx);
    const set = pick([
      { at: otherNumber(checkpoint.at) },
      {
        heads: pick(['[]', 'no json', checkpoint.heads.replace(',', ' ,'), checkpoint.heads.replace(/\d+,/, '1234,')]),
      },
      { previous: otherHash(checkpoint.previous) },
      { key_id: otherText(checkpoint.key_id) },
      // The last of these is the same signature, spelled in another way.
      { signature: pick([otherHash(checkpoint.signature), '', ` ${checkpoint.signature}`]) },
      { n: checkpoint.n + 100 },
      { n: -checkpoint.n },
    ]);
    await tx.updateTable('audit_checkpoints').set(set).where('n', '=', checkpoint.n).execute();
  },
  async 'removes a checkpoint'(tx) {
    const { n } = await someCheckpoint(tx);
    await tx
      .deleteFrom('audit_checkpoints')
      .where('n', pick(['=', '>='] as const), n)
      .execute();
  },
  async 'removes a checkpoint, and gives its number to the next'(tx) {
    const { n } = await someCheckpoint(tx);
    await tx.deleteFrom('audit_checkpoints').where('n', '=', n).execute();
    await tx
      .updateTable('audit_checkpoints')
      .set(({ eb }) => ({ n: eb('n', '-', 1) }))
      .where('n', '=', n + 1)
      .execute();
  },
  async 'forges a checkpoint'(tx) {
    const checkpoint = await someCheckpoint(tx);
    const forged = signCheckpoint(
      { ...checkpoint, heads: [{ chain: 'operator', length: 1, head: 'ab' }] },
      { id: checkpoint.key_id, privateKey: generateKeyPairSync('ed25519').privateKey },
    );
    const n = pick([checkpoint.n, 1_000]);
    await tx.deleteFrom('audit_checkpoints').where('n', '=', n).execute();
    await tx
      .insertInto('audit_checkpoints')
      .values({ ...forged, n })
      .execute();
  },
  async 'changes the key'(tx) {
    const { publicKey } = generateKeyPairSync('ed25519');
    await tx
      .updateTable('signing_keys')
      .set({ public_key: writePublicKey(publicKey) })
      .execute();
  },
  async 'takes the key away'(tx) {
    await tx.deleteFrom('signing_keys').execute();
  },
};

import { randomBytes } from 'node:crypto';
import type { Logger } from '../log/logger.ts';
import type { Database, Transaction } from '../store/database.ts';
import type { AuditChain } from '../store/tables.ts';
import { beginningOf, hashOfEntry } from './entry.ts';

/** Everything that is worth an entry. */
export type AuditAction =
  | 'invite.created'
  | 'invite.refused'
  | 'device.enrolled'
  | 'device.confirmed'
  | 'device.renamed'
  | 'device.revoked'
  | 'device.swept'
  | 'device.clone_suspected'
  | 'devices.revoked_all'
  | 'key.rotated'
  | 'key.retired'
  | 'key.revoked'
  | 'rotation.asked'
  | 'keys.rewrapped'
  | 'database.restored';

/** Who did what to whom. No secret belongs in it: an entry is there for ever, and is exported. */
export type AuditEvent = {
  actor: string;
  action: AuditAction;
  target: string;
  details?: Readonly<Record<string, string | number | boolean | null>>;
  requestId?: string;
};

/** The chain that all commands write to; each start of a broker begins one of its own. */
export const OPERATOR_CHAIN = 'operator';

/** The name of the chain of a broker that starts now. */
export function newChain(): string {
  return `broker-${randomBytes(10).toString('hex')}`;
}

const MOST_AT_ONCE = 500;

/** Where a process writes down what it did. */
export class AuditLog {
  readonly #chain: string;
  readonly #now: () => number;
  #announced = 0;

  constructor({ chain, now }: { chain: string; now: () => number }) {
    this.#chain = chain;
    this.#now = now;
  }

  /**
   * Writes an entry in the transaction of the act itself: when it cannot be written, the act has not happened either. Call
   * it last: on Postgres the chain is held until the transaction ends, and the others that write to it wait.
   */
  async record(tx: Transaction, { actor, action, target, details = {}, requestId }: AuditEvent): Promise<void> {
    const at = Math.trunc(this.#now());
    const { length: n, head: previous } = await this.#take(tx, at);
    const entry = {
      chain: this.#chain,
      n,
      at,
      actor: storable(actor),
      action,
      target: storable(target),
      details: storable(JSON.stringify(details)),
      request_id: requestId === undefined ? null : storable(requestId),
    };
    const hash = hashOfEntry(previous, entry);
    await tx
      .insertInto('audit_entries')
      .values({ ...entry, hash })
      .execute();
    await tx.updateTable('audit_chains').set({ head: hash }).where('id', '=', this.#chain).execute();
  }

  /**
   * Puts what was recorded since the last time into the log. It reads back what is committed, so nothing that was undone is
   * ever announced; a process that ends before leaves it to the next checkpoint.
   */
  async announce(database: Database, log: Logger): Promise<void> {
    for (;;) {
      const entries = await database.read
        .selectFrom('audit_entries')
        .selectAll()
        .where('chain', '=', this.#chain)
        .where('n', '>', this.#announced)
        .orderBy('n')
        .limit(MOST_AT_ONCE)
        .execute();
      for (const { chain, n, actor, action, target, request_id, hash } of entries) {
        if (n <= this.#announced) continue; // by a call that ran beside this one
        log.info({ auditEntry: { chain, n, actor, action, target, request_id, hash } }, 'audit entry');
        this.#announced = n;
      }
      if (entries.length < MOST_AT_ONCE) return;
    }
  }

  // Counts the chain up, and only then reads it: on Postgres whoever comes second waits here until the first has committed,
  // and sees what it wrote. (SQLite has one writer at a time.)
  async #take(tx: Transaction, at: number): Promise<Pick<AuditChain, 'length' | 'head'>> {
    const count = () =>
      tx
        .updateTable('audit_chains')
        .set((expression) => ({ length: expression('length', '+', 1) }))
        .where('id', '=', this.#chain)
        .returning(['length', 'head'])
        .executeTakeFirst();
    const taken = await count();
    if (taken !== undefined) return taken;
    const begun = { id: this.#chain, started_at: at };
    await tx
      .insertInto('audit_chains')
      .values({ ...begun, length: 0, head: beginningOf(begun) })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    return (await count())!;
  }
}

// Postgres refuses NUL in a text, and some readers of lines take the other two for the end of one.
function storable(text: string): string {
  return text.replace(/[\0\u2028\u2029]/g, '\uFFFD');
}

import type { Logger } from '../log/logger.ts';
import { OperatorError } from '../log/operator-error.ts';
import type { Database, Reader, Transaction } from '../store/database.ts';
import type { AuditCheckpoint } from '../store/tables.ts';
import { appendCheckpoint } from './checkpoint-file.ts';
import { BEFORE_THE_FIRST, hashOfCheckpoint, headsOf, signCheckpoint, type Head } from './checkpoint.ts';
import { withoutCheckpoint } from './rollback.ts';
import type { SigningKey } from './signing-key.ts';

type Settings = {
  database: Database;
  key: SigningKey;
  /** Where each checkpoint is kept outside of the database. */
  file: string;
  log: Logger;
  now: () => number;
};

/** Thrown with a sentence for the operator when the database is not one that can be vouched for. */
export class CheckpointError extends OperatorError {
  override name = 'CheckpointError';
}

const PAGE = 500;
const MOST_ATTEMPTS = 5;

/**
 * Signs how far the chains have come. A checkpoint names the chains that have grown since they were last named, and the
 * checkpoint before it; so the last one vouches for all chains, however many brokers have come and gone.
 */
export class CheckpointWriter {
  readonly #settings: Settings;
  readonly #named = new Map<string, Head>();
  readonly #alarmed = new Set<string>();
  #last: AuditCheckpoint | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** Makes a checkpoint if any chain has grown: in the database first, then in the log and in the file. */
  async write(): Promise<AuditCheckpoint | undefined> {
    const { database, log, file } = this.#settings;
    // The first time this reads every checkpoint there is; nobody shall wait behind a transaction for that.
    await this.#catchUp(database.read);
    for (let attempts = 1; attempts <= MOST_ATTEMPTS; attempts++) {
      const made = await database.write((tx) => this.#insert(tx));
      if (made === 'nothing grew') return undefined;
      if (made === 'another was first') continue;
      this.#take(made);
      log.info({ auditCheckpoint: made }, 'audit checkpoint');
      appendCheckpoint(file, made);
      return made;
    }
    throw new CheckpointError('Other brokers made checkpoints all the time; this one will try again.');
  }

  async #insert(tx: Transaction): Promise<AuditCheckpoint | 'nothing grew' | 'another was first'> {
    // The chains are read after the checkpoint that this one will follow: so it is never behind it.
    const last = await this.#catchUp(tx);
    const heads = await this.#grown(tx);
    if (heads.length === 0) return 'nothing grew';
    const { key, now } = this.#settings;
    const previous = last === undefined ? BEFORE_THE_FIRST : hashOfCheckpoint(last);
    const checkpoint = signCheckpoint({ n: (last?.n ?? 0) + 1, at: Math.trunc(now()), heads, previous }, key);
    const inserted = await tx
      .insertInto('audit_checkpoints')
      .values(checkpoint)
      .onConflict((conflict) => conflict.doNothing())
      .returning('n')
      .executeTakeFirst();
    return inserted === undefined ? 'another was first' : checkpoint;
  }

  // Other brokers over the same database make checkpoints too.
  async #catchUp(reader: Reader): Promise<AuditCheckpoint | undefined> {
    const lost = this.#last && (await withoutCheckpoint(reader, this.#last));
    if (lost !== undefined) throw new CheckpointError(lost);
    for (;;) {
      const page = await reader
        .selectFrom('audit_checkpoints')
        .selectAll()
        .where('n', '>', this.#last?.n ?? 0)
        .orderBy('n')
        .limit(PAGE)
        .execute();
      for (const checkpoint of page) this.#take(checkpoint);
      if (page.length < PAGE) return this.#last;
    }
  }

  #take(checkpoint: AuditCheckpoint): void {
    for (const head of headsOf(checkpoint) ?? []) this.#named.set(head.chain, head);
    this.#last = checkpoint;
  }

  async #grown(tx: Transaction): Promise<Head[]> {
    const rows = await tx
      .selectFrom('audit_chains')
      .select(['id as chain', 'length', 'head'])
      .orderBy('started_at')
      .orderBy('id')
      .execute();
    const grown = rows.filter(({ chain, length }) => length > (this.#named.get(chain)?.length ?? 0));
    this.#alarm(rows);
    return grown;
  }

  // What was vouched for may only grow. It is no reason to stop vouching for the other chains.
  #alarm(rows: readonly Head[]): void {
    const now = new Map(rows.map((row) => [row.chain, row]));
    for (const { chain, length, head } of this.#named.values()) {
      const row = now.get(chain);
      const isThere = row !== undefined && (row.length > length || (row.length === length && row.head === head));
      if (isThere || this.#alarmed.has(chain)) continue;
      this.#alarmed.add(chain);
      this.#settings.log.error({ chain, length }, 'the audit log lacks what a checkpoint names; run audit verify');
    }
  }
}

import type { Reader } from '../store/database.ts';
import type { AuditChain, AuditCheckpoint, AuditEntry } from '../store/tables.ts';

/** An audit log that can be read piece by piece, so that a long one needs no more memory than a short one. */
export type StoredLog = {
  /** Every chain that has a row or an entry. */
  chains(): Promise<string[]>;
  chain(id: string): Promise<AuditChain | undefined>;
  /** In order of n, those above `after`; up to `upTo`, if it is given. */
  entries(chain: string, after: number, upTo?: number): AsyncIterable<AuditEntry>;
  checkpoints(after: number): AsyncIterable<AuditCheckpoint>;
};

/** Before every number that can stand in the database, those included that nobody ever wrote there. */
export const BEFORE_ALL = Number.MIN_SAFE_INTEGER;

const PAGE = 1000;

/** The audit log of a database; a running broker may write to it meanwhile. */
export function storedLog(reader: Reader): StoredLog {
  return {
    async chains() {
      const rows = await reader
        .selectFrom('audit_chains')
        .select('id')
        .union(reader.selectFrom('audit_entries').select('chain as id'))
        .orderBy('id')
        .execute();
      return rows.map(({ id }) => id);
    },
    chain: (id) => reader.selectFrom('audit_chains').selectAll().where('id', '=', id).executeTakeFirst(),
    entries: (chain, after, upTo) =>
      inPages(after, (last) => {
        const page = reader.selectFrom('audit_entries').selectAll().where('chain', '=', chain).where('n', '>', last);
        const bounded = upTo === undefined ? page : page.where('n', '<=', upTo);
        return bounded.orderBy('n').limit(PAGE).execute();
      }),
    checkpoints: (after) =>
      inPages(after, (last) =>
        reader.selectFrom('audit_checkpoints').selectAll().where('n', '>', last).orderBy('n').limit(PAGE).execute(),
      ),
  };
}

// Page by page, not in one statement: a statement that is open for minutes would keep the database from tidying up, and a
// snapshot is not needed, for nothing in an audit log ever changes.
async function* inPages<Row extends { n: number }>(
  after: number,
  page: (last: number) => Promise<Row[]>,
): AsyncGenerator<Row> {
  for (let last = after; ;) {
    const rows = await page(last);
    yield* rows;
    if (rows.length < PAGE) return;
    last = rows.at(-1)!.n;
  }
}

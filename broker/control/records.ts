import { AuditLog } from '../audit/audit-log.ts';
import type { Config } from '../config/config.ts';
import type { Database } from '../store/database.ts';
import { Envelope } from '../store/envelope.ts';
import { openKeyRing, type KeyRing } from '../store/key-ring.ts';

/** What every act of the control plane works on: where it is written, sealed and accounted for. */
export type Records = {
  database: Database;
  ring: KeyRing;
  envelope: Envelope;
  audit: AuditLog;
  now: () => number;
};

type Settings = { config: Config; database: Database; chain: string; now: () => number };

/** Opens the records of a database that has its tables. */
export async function openRecords({ config, database, chain, now }: Settings): Promise<Records> {
  const ring = await openKeyRing(config, database);
  return { database, ring, envelope: new Envelope({ ring, now }), audit: new AuditLog({ chain, now }), now };
}

/** Who acts, as the audit log names it, and in answer to which request. */
export type Actor = { actor: string; requestId?: string };

/** A moment as people and programs read it. */
export function iso(ms: number): string {
  return new Date(ms).toISOString();
}

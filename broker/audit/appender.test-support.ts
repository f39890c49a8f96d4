import { Secret } from '@sallyport/protocol/secret.ts';
import { openDatabase, type Place } from '../store/database.ts';
import { AuditLog, OPERATOR_CHAIN } from './audit-log.ts';
import { EVENT } from './audit.test-support.ts';

// A process of its own that acts and records, as a command beside a running broker does. It prints each act that is
// committed; asked to hang, it records its last one and never commits.

/** What the parent asks of it: the only argument, as JSON. */
export type Appending = { file?: string; url?: string; name: string; acts: number; hangs: boolean };

if (import.meta.main) {
  const { file, url, name, acts, hangs } = JSON.parse(process.argv[2]!) as Appending;
  const place: Place = file === undefined ? { kind: 'postgres', url: new Secret(url!) } : { kind: 'sqlite', file };
  const database = await openDatabase(place, () => {});
  const log = new AuditLog({ chain: OPERATOR_CHAIN, now: Date.now });
  const act = (target: string, then: () => Promise<void>) =>
    database.write(async (tx) => {
      await tx.insertInto('migrations').values({ name: target, applied_at: 1 }).execute();
      await log.record(tx, { ...EVENT, target });
      await then();
    });
  for (let count = 0; count < acts; count++) {
    await act(`${name}-${count}`, async () => {});
    process.stdout.write(`${name}-${count}\n`);
  }
  if (hangs) {
    await act(`${name}-hanging`, () => {
      process.stdout.write('recorded\n');
      return new Promise(() => setInterval(() => {}, 1000));
    });
  }
  await database.close();
}

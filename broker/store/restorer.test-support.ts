import { openDatabase } from './database.ts';
import { openBackup } from './read-backup.ts';
import { restore } from './restore.ts';
import { placeFrom } from './writer.test-support.ts';

// Run as a program it restores a backup, and stands still when all is written and nothing is committed.
if (import.meta.main) {
  const [file = '', ...place] = process.argv.slice(2);
  const database = await openDatabase(placeFrom(place), () => {});
  const since = { replace: true, revokeAll: false };
  await restore(database, await openBackup(file), since, {
    now: Date.now,
    record() {
      process.stdout.write('all but committed\n');
      return new Promise((resolve) => setTimeout(resolve, 60_000));
    },
  });
}

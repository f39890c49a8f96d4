import assert from 'node:assert/strict';
import { onEachDatabase } from './databases.test-support.ts';
import { migrate, pendingMigrations } from './migrations.ts';

onEachDatabase('migrations', (fresh) => {
  it('are done once, and nothing is left to do', async () => {
    assert.deepEqual(await pendingMigrations(fresh().database), []);
    assert.deepEqual(await migrate(fresh().database, Date.now), []);
  });

  it('leave a database alone that is ahead of this version', async () => {
    const { database } = fresh();
    await database.write((tx) =>
      tx.insertInto('migrations').values({ name: '9999-from-the-future', applied_at: 1 }).execute(),
    );
    assert.deepEqual(await pendingMigrations(database), []);
    assert.deepEqual(await migrate(database, Date.now), []);
  });
});

import { argv, env } from 'node:process';
import { Secret } from '@sallyport/protocol/secret.ts';
import { openDatabase, type Place } from './database.ts';
import { Envelope } from './envelope.ts';
import { keyRing } from './key-ring.ts';

// What `keys rotate` does, as a process that tests may kill: `node rewrap.test-support.ts <pause in ms>`, with the database
// in DATABASE_FILE or DATABASE_URL and the keys in KEYS. It says how many are left after each batch.

const place: Place =
  env['DATABASE_FILE'] === undefined
    ? { kind: 'postgres', url: new Secret(env['DATABASE_URL'] ?? '') }
    : { kind: 'sqlite', file: env['DATABASE_FILE'] };
const keys = (env['KEYS'] ?? '').split(',').map((key) => new Secret(Buffer.from(key, 'base64')));
const pauseMs = Number(argv[2]);

const database = await openDatabase(place, () => {});
const done = await new Envelope({ ring: keyRing(keys), now: Date.now }).rewrap(database, (_, left) => {
  console.log(`left ${left}`);
  if (pauseMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
});
console.log(`done ${done}`);
await database.close();

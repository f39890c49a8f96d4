import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Config } from '../config/config.ts';
import { DatabaseError, openDatabase, type Database, type Place } from './database.ts';
import { migrate, pendingMigrations } from './migrations.ts';

type Voice = { now: () => number; say: (line: string) => void };

/** Where the database of this configuration is. */
export function placeOf({ data, database: { url } }: Pick<Config, 'data' | 'database'>): Place {
  return url === undefined ? { kind: 'sqlite', file: join(data, 'sallyport.db') } : { kind: 'postgres', url };
}

/** Opens the database of this configuration as it is, whatever its schema. */
export async function openUnmigrated(
  config: Pick<Config, 'data' | 'database'>,
  { say }: Pick<Voice, 'say'>,
): Promise<Database> {
  const place = placeOf(config);
  if (place.kind === 'sqlite') makeFolder(dirname(place.file));
  return openDatabase(place, (error) => say(`A connection to the database broke: ${error.message}`));
}

/** Opens the database of this configuration for a command, with the schema of this version; throws a DatabaseError to show. */
export async function openStore(config: Pick<Config, 'data' | 'database'>, terminal: Voice): Promise<Database> {
  const database = await openUnmigrated(config, terminal);
  try {
    if (config.database.migratesAtStart) await migrate(database, terminal.now);
    const pending = await pendingMigrations(database);
    if (pending.length > 0) {
      throw new DatabaseError(
        `The database lacks ${pending.join(', ')}, and database.migrate is false; run sallyport-broker migrate first.`,
      );
    }
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const { message } = cause as Error;
    throw new DatabaseError(
      `The data folder ${folder} cannot be made: ${message}; name another (data: or SALLYPORT_DATA).`,
      { cause },
    );
  }
}

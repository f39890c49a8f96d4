import type { Reader, Transaction } from './database.ts';
import type { Counter, Device, DeviceKey } from './tables.ts';

/** A key and its device: they are always judged together, so that a device that is revoked takes its keys with it. */
export type KeyOfDevice = { key: DeviceKey; device: Device };

/**
 * The keys of these ids that there are. The devices are read after the keys: what is revoked in between counts already.
 */
export async function findKeys(reader: Reader, keyids: readonly string[]): Promise<KeyOfDevice[]> {
  if (keyids.length === 0) return [];
  const keys = await reader.selectFrom('device_keys').selectAll().where('keyid', 'in', keyids).execute();
  const ids = [...new Set(keys.map(({ device_id }) => device_id))];
  if (ids.length === 0) return [];
  const devices = await reader.selectFrom('devices').selectAll().where('id', 'in', ids).execute();
  const byId = new Map(devices.map((device) => [device.id, device]));
  return keys.map((key) => ({ key, device: byId.get(key.device_id)! }));
}

/** The live keys of a device: the one in use, and the one that it replaces. */
export function liveKeys(reader: Reader, deviceId: string): Promise<DeviceKey[]> {
  return reader
    .selectFrom('device_keys')
    .selectAll()
    .where('device_id', '=', deviceId)
    .where('state', 'in', ['active', 'retiring'])
    .execute();
}

/** The value of a counter; 0 until it is first raised. */
export async function readCounter(reader: Reader, name: Counter['name']): Promise<number> {
  const row = await reader.selectFrom('counters').select('value').where('name', '=', name).executeTakeFirst();
  return row?.value ?? 0;
}

/** Raises a counter by one, and tells its new value. */
export async function raiseCounter(tx: Transaction, name: Counter['name']): Promise<number> {
  const { value } = await tx
    .insertInto('counters')
    .values({ name, value: 1 })
    .onConflict((conflict) =>
      conflict.column('name').doUpdateSet(({ ref, eb }) => ({ value: eb(ref('counters.value'), '+', 1) })),
    )
    .returning('value')
    .executeTakeFirstOrThrow();
  return value;
}

/** To be said in every transaction that changes who may do what: running brokers read again when this has moved. */
export async function noteIdentityChange(tx: Transaction): Promise<void> {
  await raiseCounter(tx, 'identity_revision');
}

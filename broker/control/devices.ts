import { noteIdentityChange, raiseCounter, readCounter, type KeyOfDevice } from '../store/devices.ts';
import type { Device, DeviceKey } from '../store/tables.ts';
import type { Actor, Records } from './records.ts';

// A key that was replaced is taken a little longer once the new one works: for requests under way, and other processes.
const GRACE_MS = 10 * 60_000;

/** A device that is not heard within this of its enrolment never got its key. */
export const UNHEARD_MS = 15 * 60_000;

/** A device with its live keys, and whether what it signs is taken. */
export type DeviceNow = { device: Device; keys: DeviceKey[]; state: 'active' | 'unheard' | 'revoked' };

/** The devices that there are, the latest first; one of them by its id or its name. */
export async function listDevices({ database }: Pick<Records, 'database'>, wanted?: string): Promise<DeviceNow[]> {
  const { read } = database;
  const all = read.selectFrom('devices').selectAll().orderBy('created_at', 'desc').orderBy('id');
  const devices = await (
    wanted === undefined ? all : all.where(({ or, eb }) => or([eb('id', '=', wanted), eb('name', '=', wanted)]))
  ).execute();
  const minEpoch = await readCounter(read, 'min_key_epoch');
  const keys = await read.selectFrom('device_keys').selectAll().where('state', '!=', 'gone').execute();
  const byDevice = Map.groupBy(keys, ({ device_id }) => device_id);
  return devices.map((device) => {
    const live = (byDevice.get(device.id) ?? []).filter(({ epoch }) => epoch >= minEpoch);
    const isDead = device.revoked_at !== null || live.length === 0;
    return { device, keys: live, state: isDead ? 'revoked' : device.confirmed_at === null ? 'unheard' : 'active' };
  });
}

/** Shuts a device out, for good: nothing brings it back but a new enrolment. False when it was shut out already. */
export async function revokeDevice(records: Records, deviceId: string, because: string, by: Actor): Promise<boolean> {
  return records.database.write(async (tx) => {
    const { numUpdatedRows } = await tx
      .updateTable('devices')
      .set({ revoked_at: records.now(), revoked_because: because })
      .where('id', '=', deviceId)
      .where('revoked_at', 'is', null)
      .executeTakeFirst();
    if (numUpdatedRows === 0n) return false;
    await tx.updateTable('device_keys').set({ state: 'gone' }).where('device_id', '=', deviceId).execute();
    await noteIdentityChange(tx);
    await records.audit.record(tx, { ...by, action: 'device.revoked', target: deviceId, details: { because } });
    return true;
  });
}

/** Shuts every device out at once. Tells how many that were. */
export async function revokeAllDevices(records: Records, because: string, by: Actor): Promise<number> {
  return records.database.write(async (tx) => {
    await raiseCounter(tx, 'min_key_epoch');
    const { numUpdatedRows } = await tx
      .updateTable('devices')
      .set({ revoked_at: records.now(), revoked_because: because })
      .where('revoked_at', 'is', null)
      .executeTakeFirst();
    await tx.updateTable('device_keys').set({ state: 'gone' }).where('state', '!=', 'gone').execute();
    await noteIdentityChange(tx);
    const details = { because, devices: Number(numUpdatedRows) };
    await records.audit.record(tx, { ...by, action: 'devices.revoked_all', target: 'devices', details });
    return Number(numUpdatedRows);
  });
}

/** Gives a device another name. False when there is no such device. */
export async function renameDevice(records: Records, deviceId: string, name: string, by: Actor): Promise<boolean> {
  return records.database.write(async (tx) => {
    const { numUpdatedRows } = await tx
      .updateTable('devices')
      .set({ name })
      .where('id', '=', deviceId)
      .executeTakeFirst();
    if (numUpdatedRows === 0n) return false;
    await records.audit.record(tx, { ...by, action: 'device.renamed', target: deviceId, details: { name } });
    return true;
  });
}

/** Asks a device to make itself a new key; it learns of it with its next answer. */
export async function askForRotation(records: Records, deviceId: string, by: Actor): Promise<boolean> {
  return records.database.write(async (tx) => {
    const { numUpdatedRows } = await tx
      .updateTable('devices')
      .set({ rotate_asked_at: records.now() })
      .where('id', '=', deviceId)
      .where('revoked_at', 'is', null)
      .executeTakeFirst();
    if (numUpdatedRows === 0n) return false;
    await noteIdentityChange(tx);
    await records.audit.record(tx, { ...by, action: 'rotation.asked', target: deviceId });
    return true;
  });
}

/** A key was used for the first time: its device is there, and the key that it replaces has not much longer. */
export async function confirmKey(records: Records, { key, device }: KeyOfDevice, requestId: string): Promise<void> {
  const { database, audit, now } = records;
  await database.write(async (tx) => {
    const at = now();
    const used = await tx
      .updateTable('device_keys')
      .set({ first_used_at: at })
      .where('keyid', '=', key.keyid)
      .where('first_used_at', 'is', null)
      .where('state', '!=', 'gone')
      .executeTakeFirst();
    // Another instance was first; or it has been revoked or swept meanwhile, and that stays so.
    if (used.numUpdatedRows === 0n) return;
    await tx
      .updateTable('devices')
      .set({ confirmed_at: at })
      .where('id', '=', device.id)
      .where('confirmed_at', 'is', null)
      .execute();
    await tx
      .updateTable('device_keys')
      .set({ not_after: at + GRACE_MS })
      .where('device_id', '=', device.id)
      .where('state', '=', 'retiring')
      .where('not_after', '>', at + GRACE_MS)
      .execute();
    await noteIdentityChange(tx);
    const details = { keyid: key.keyid };
    await audit.record(tx, { actor: device.id, action: 'device.confirmed', target: device.id, details, requestId });
  });
}

/** Writes down that two machines seem to share a key. */
export async function noteCloneSign(records: Records, deviceId: string, why: string, requestId: string): Promise<void> {
  const event = { actor: 'broker', action: 'device.clone_suspected', target: deviceId, details: { why } } as const;
  await records.database.write((tx) => records.audit.record(tx, { ...event, requestId }));
}

/** Takes away the devices that were never heard: their answer was lost, or whoever asked had no use for it. */
export async function sweepUnheard(records: Records): Promise<number> {
  const { database, audit, now } = records;
  const before = now() - UNHEARD_MS;
  const some = await database.read
    .selectFrom('devices')
    .select('id')
    .where('confirmed_at', 'is', null)
    .where('revoked_at', 'is', null)
    .where('created_at', '<', before)
    .limit(1)
    .execute();
  if (some.length === 0) return 0;
  return database.write(async (tx) => {
    const swept = await tx
      .updateTable('devices')
      .set({ revoked_at: now(), revoked_because: 'it was never heard' })
      .where('confirmed_at', 'is', null)
      .where('revoked_at', 'is', null)
      .where('created_at', '<', before)
      .returning('id')
      .execute();
    if (swept.length === 0) return 0;
    const ids = swept.map(({ id }) => id);
    await tx.updateTable('device_keys').set({ state: 'gone' }).where('device_id', 'in', ids).execute();
    await noteIdentityChange(tx);
    for (const id of ids) await audit.record(tx, { actor: 'broker', action: 'device.swept', target: id });
    return ids.length;
  });
}

/** Retires the keys whose time is over; they are refused by their time already, this makes room and says so. */
export async function retireKeys(records: Records): Promise<number> {
  const { database, audit, now } = records;
  const due = await database.read
    .selectFrom('device_keys')
    .select('keyid')
    .where('state', '=', 'retiring')
    .where('not_after', '<=', now())
    .limit(1)
    .execute();
  if (due.length === 0) return 0;
  return database.write(async (tx) => {
    const retired = await tx
      .updateTable('device_keys')
      .set({ state: 'gone' })
      .where('state', '=', 'retiring')
      .where('not_after', '<=', now())
      .returning(['keyid', 'device_id'])
      .execute();
    if (retired.length === 0) return 0;
    await noteIdentityChange(tx);
    for (const { keyid, device_id } of retired) {
      await audit.record(tx, { actor: 'broker', action: 'key.retired', target: keyid, details: { device: device_id } });
    }
    return retired.length;
  });
}

import type { Aftermath } from './aftermath.ts';
import type { Row, Table } from './backup.ts';
import type { Device, DeviceKey, Invite } from './tables.ts';

/** What the database that is there has of devices. */
export type Present = {
  isEmpty: boolean;
  devices: ReadonlyMap<string, Device>;
  keys: ReadonlyMap<string, DeviceKey>;
  invites: ReadonlyMap<string, Invite>;
  /** The devices with a key that is taken. */
  withLiveKey: ReadonlySet<string>;
};

type Known = { present: Present; aftermath: Aftermath; revokeAll: boolean; nowMs: number };

/** Why a device is revoked that a restore has shut out. */
export const SHUT_OUT_BECAUSE = 'a backup was restored, and it was shut out since, or nobody knows';

/** Whether what this key signs is taken, as far as its state tells. */
export const isLive = ({ state }: Pick<DeviceKey, 'state'>) => state !== 'gone';

/**
 * What becomes of a row of a backup, when what is known of later is taken into account. It only ever takes away: nobody
 * may do more after a restore than the backup and the present both allow.
 */
export function settler({ present, aftermath, revokeAll, nowMs }: Known) {
  const seen = new Set<string>();
  const revoked = new Set<string>();
  let revokedNow = 0;

  // An invitation may have been used since, and the device that used it is not in the backup.
  function closed(row: Invite): Invite {
    const invite = present.invites.get(row.id) ?? row;
    if (invite.used_at !== null) return invite;
    return { ...invite, psk_sealed: null, expires_at: Math.min(invite.expires_at, nowMs) };
  }

  function device(row: Device): Device {
    const now = present.devices.get(row.id);
    const isShutOut = revokeAll || aftermath.isAll || aftermath.devices.has(row.id);
    const late = isShutOut ? { revoked_at: nowMs, revoked_because: SHUT_OUT_BECAUSE } : row;
    const { revoked_at, revoked_because } = [now, row].find((one) => one?.revoked_at != null) ?? late;
    seen.add(row.id);
    if (revoked_at !== null) revoked.add(row.id);
    if (revoked_at !== null && row.revoked_at === null) revokedNow++;
    const products = now === undefined ? row.products : inBoth(row.products, now.products);
    return {
      ...row,
      products,
      confirmed_at: row.confirmed_at ?? now?.confirmed_at ?? null,
      revoked_at,
      revoked_because,
    };
  }

  function key(row: DeviceKey): DeviceKey {
    const now = present.keys.get(row.keyid);
    // A device whose live key the backup does not know has replaced the keys that it does know.
    const isReplaced = now === undefined && present.withLiveKey.has(row.device_id);
    // Where the key itself is there, that is how far its replacement has come; else the log tells.
    const isGone = row.state === 'gone' || (now === undefined && aftermath.keys.has(row.keyid));
    if (isGone || isReplaced || revoked.has(row.device_id)) return { ...row, state: 'gone' };
    if (now === undefined) return row;
    const { state, not_after } = now;
    return { ...row, state, not_after, first_used_at: row.first_used_at ?? now.first_used_at };
  }

  return {
    settle(table: Table, row: Row): Row {
      if (table === 'invites') return closed(row as Invite);
      if (table === 'devices') return device(row as Device);
      if (table === 'device_keys') return key(row as DeviceKey);
      return row;
    },
    counts: () => ({
      devices: seen.size,
      revoked: revokedNow,
      kept: [...present.devices.keys()].filter((id) => !seen.has(id)).length,
    }),
  };
}

function inBoth(before: string, now: string): string {
  const still = new Set(JSON.parse(now) as string[]);
  return JSON.stringify((JSON.parse(before) as string[]).filter((name) => still.has(name)));
}

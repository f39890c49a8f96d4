import { verify } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { z } from 'zod';
import {
  isMacOf,
  macOf,
  pskOfSecret,
  rotateCovers,
  rotatedCovers,
  type RotateAnswer,
} from '@sallyport/protocol/enrolment.ts';
import { ApiError } from '@sallyport/protocol/errors.ts';
import { ed25519PublicKey } from '@sallyport/protocol/keys.ts';
import { answerJson } from '../edge/answer.ts';
import type { Transaction } from '../store/database.ts';
import { findKeys, liveKeys, noteIdentityChange } from '../store/devices.ts';
import type { DeviceKey } from '../store/tables.ts';
import { AlgorithmName, MacBytes, ProofBytes, PublicKeyBytes, readAsked } from './asked.ts';
import { addKey, makeKey } from './enrolment.ts';
import { iso, type Records } from './records.ts';

// A device that is switched off between asking for a new key and using it still has the old one the next day.
const OVERLAP_MS = 24 * 3_600_000;

const Asked = z
  .strictObject({
    alg: AlgorithmName,
    daemon_key: PublicKeyBytes,
    mac: MacBytes.optional(),
    proof: ProofBytes.optional(),
  })
  .refine(({ alg, mac }) => (alg === 'hmac-sha256') === (mac !== undefined), {
    path: ['mac'],
    message: 'must be there for hmac-sha256, and only then',
  })
  .refine(({ alg, proof }) => (alg === 'ed25519') === (proof !== undefined), {
    path: ['proof'],
    message: 'must be there for ed25519, and only then',
  });
type Asked = z.infer<typeof Asked>;

type Exchange = {
  response: ServerResponse;
  answerHeaders: readonly string[];
  requestId: string;
  body: Buffer;
  caller: { kind: string; name: string; keyid: string };
};

/** Gives a device a new key beside the one that it signed with; the same answer however often it asks for the same one. */
export function rotate(records: Records) {
  return async (exchange: Exchange): Promise<void> => {
    const { caller, requestId, body } = exchange;
    if (caller.kind !== 'device') throw new ApiError('device_required', { facts: { client: caller.name } });
    const asked = readAsked(Asked, body);
    const answer = await records.database.write((tx) =>
      replaceKey(tx, records, { asked, keyid: caller.keyid, requestId }),
    );
    answerJson(exchange, 200, answer);
  };
}

type Rotation = { asked: Asked; keyid: string; requestId: string };

async function replaceKey(
  tx: Transaction,
  records: Records,
  { asked, keyid, requestId }: Rotation,
): Promise<RotateAnswer> {
  const { audit, now } = records;
  // By writing first: of two that come at once, one waits here for the other. And the state is read anew: it may have been
  // revoked since the signature was checked, and revoking wins.
  await tx
    .updateTable('device_keys')
    .set(({ ref }) => ({ state: ref('state') }))
    .where('keyid', '=', keyid)
    .execute();
  const [found] = await findKeys(tx, [keyid]);
  if (found === undefined || found.device.revoked_at !== null) throw new ApiError('device_revoked');
  const { key: old, device } = found;
  if (old.state === 'gone') throw new ApiError('key_retired');
  const psk = await proven(tx, records, old, asked);

  const daemonKey = asked.daemon_key.toString('base64url');
  const other = (await liveKeys(tx, device.id)).find((key) => key.keyid !== keyid);
  if (other?.state === 'active' && other.daemon_key === daemonKey) return answerWith(old, other, asked.daemon_key, psk);
  if (other !== undefined && !(await makeRoom(tx, other, now()))) {
    const until = iso((other.state === 'retiring' ? other.not_after : old.not_after) ?? now());
    throw new ApiError('rotation_underway', { facts: { until } });
  }

  const made = makeKey(asked.alg, asked.daemon_key, psk ?? Buffer.alloc(0));
  if (made instanceof ApiError) throw made;
  const notAfter = old.not_after ?? now() + OVERLAP_MS;
  await tx
    .updateTable('device_keys')
    .set({ state: 'retiring', not_after: notAfter })
    .where('keyid', '=', keyid)
    .execute();
  if (!(await addKey(tx, records, { made, deviceId: device.id, daemonKey: asked.daemon_key })))
    throw new ApiError('key_known');
  await noteIdentityChange(tx);
  await audit.record(tx, {
    actor: device.id,
    action: 'key.rotated',
    target: keyid,
    details: { device: device.id, new_keyid: made.keyid, algorithm: asked.alg },
    requestId,
  });
  const fresh = { keyid: made.keyid, broker_key: made.brokerKey?.toString('base64url') ?? null };
  return answerWith({ not_after: notAfter }, fresh, asked.daemon_key, psk);
}

// What both sides know of the old key proves the new one, and keeps a stranger on the way from putting in his own. With
// Ed25519 nothing has to stay between the two: the signature over the request covers the new public key.
async function proven(
  tx: Transaction,
  { envelope }: Records,
  old: DeviceKey,
  asked: Asked,
): Promise<Buffer | undefined> {
  const covers = rotateCovers(asked.daemon_key, asked.alg, old.keyid);
  if (asked.alg === 'ed25519') {
    if (!verify(null, covers, ed25519PublicKey(asked.daemon_key).key, asked.proof!))
      throw new ApiError('rotation_proof');
    return undefined;
  }
  if (old.secret_sealed === null) {
    const why = 'must stay ed25519: nothing is shared that a secret could be agreed on with';
    throw new ApiError('field_invalid', { param: 'alg', facts: { field: 'alg', why } });
  }
  const place = { table: 'device_keys', column: 'secret_sealed', row: old.keyid };
  const psk = pskOfSecret(await envelope.open(tx, place, old.secret_sealed));
  if (!isMacOf(asked.mac!, psk, covers)) throw new ApiError('rotation_proof');
  return psk;
}

// Two live keys are the most. A newer one that was never used is one that the device has lost on its way home; an older one
// whose time is over is only waiting to be swept.
async function makeRoom(tx: Transaction, other: DeviceKey, nowMs: number): Promise<boolean> {
  const isLost = other.state === 'active' && other.first_used_at === null;
  const isOver = other.state === 'retiring' && other.not_after !== null && other.not_after <= nowMs;
  if (!isLost && !isOver) return false;
  await tx.updateTable('device_keys').set({ state: 'gone' }).where('keyid', '=', other.keyid).execute();
  return true;
}

function answerWith(
  old: Pick<DeviceKey, 'not_after'>,
  { keyid, broker_key: brokerKey }: Pick<DeviceKey, 'keyid' | 'broker_key'>,
  daemonKey: Buffer,
  psk: Buffer | undefined,
): RotateAnswer {
  const ours = Buffer.from(brokerKey ?? '', 'base64url');
  return {
    keyid,
    previous_until: iso(old.not_after!),
    ...(brokerKey !== null && { broker_key: brokerKey }),
    ...(psk && { mac: macOf(psk, rotatedCovers(daemonKey, ours, keyid)).toString('base64url') }),
  };
}

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Secret } from '@sallyport/protocol/secret.ts';
import { openLog, type Logger } from '../log/logger.ts';
import type { Database, Reader } from '../store/database.ts';
import { Envelope } from '../store/envelope.ts';
import { keyRing } from '../store/key-ring.ts';
import { AuditLog, newChain, OPERATOR_CHAIN, type AuditEvent } from './audit-log.ts';
import { CHECKPOINT_FILE, readWitnesses } from './checkpoint-file.ts';
import { CheckpointWriter } from './checkpoint-writer.ts';
import type { Finding } from './finding.ts';
import { findPublicKey, openSigningKey, type SigningKey } from './signing-key.ts';
import { storedLog } from './stored-log.ts';
import { verifyLog, type Verified } from './verify.ts';

/** An entry like any other. */
export const EVENT: AuditEvent = {
  actor: 'person:someone',
  action: 'device.renamed',
  target: 'dev_1',
  details: { from: 'old "name"', to: 'naïve 名前', again: true, nothing: null, times: 3 },
  requestId: 'req_1',
};

/** A log with what goes with it: a key, a file outside, and the lines of a process. */
export type AuditWorld = {
  folder: string;
  file: string;
  log: Logger;
  lines: () => Record<string, unknown>[];
  record: (chain: AuditLog, event?: Partial<AuditEvent>) => Promise<void>;
  broker: () => AuditLog;
  operator: AuditLog;
  key: () => Promise<SigningKey>;
  writer: () => Promise<CheckpointWriter>;
  verify: (options?: {
    reader?: Reader;
    outside?: string;
  }) => Promise<Verified & { says: string[]; findings: Finding[] }>;
  drop: () => void;
};

/** Opens a world over a fresh database. */
export function auditWorld(database: Database): AuditWorld {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-audit-'));
  const file = join(folder, CHECKPOINT_FILE);
  const written: string[] = [];
  const { log, closeLog } = openLog({ level: 'info', destination: { write: (line) => void written.push(line) } });
  const envelope = new Envelope({ ring: keyRing([new Secret(randomBytes(32))]), now: Date.now });
  let ticks = Date.parse('2026-01-01T00:00:00Z');
  const now = () => (ticks += 1000);
  const key = () => openSigningKey(database, envelope, now);
  return {
    folder,
    file,
    log,
    lines: () => written.map((line) => JSON.parse(line) as Record<string, unknown>),
    record: (chain, event) => database.write((tx) => chain.record(tx, { ...EVENT, ...event })),
    broker: () => new AuditLog({ chain: newChain(), now }),
    operator: new AuditLog({ chain: OPERATOR_CHAIN, now }),
    key,
    writer: async () => new CheckpointWriter({ database, key: await key(), file, log, now }),
    async verify({ reader = database.read, outside } = {}) {
      const findings: Finding[] = [];
      const counts = await verifyLog({
        log: storedLog(reader),
        publicKey: await findPublicKey(reader),
        ...(outside !== undefined && { witnesses: readWitnesses(outside) }),
        found: (finding) => void findings.push(finding),
      });
      return { ...counts, findings, says: findings.map(({ says }) => says) };
    },
    drop() {
      closeLog();
      rmSync(folder, { recursive: true });
    },
  };
}

/** A log as a few days leave it: brokers that came and went, commands beside them, and a checkpoint every now and then. */
export async function filledWorld(database: Database): Promise<AuditWorld> {
  const world = auditWorld(database);
  const writer = await world.writer();
  for (const target of ['a', 'b', 'c']) {
    const broker = world.broker();
    for (let n = 0; n < 6; n++) {
      await world.record(broker, { target: `${target}${n}`, details: { n } });
      if (n % 3 === 2) await world.record(world.operator, { action: 'rotation.asked', target: `${target}${n}` });
      if (n % 3 !== 0) assert.ok(await writer.write());
    }
  }
  return world;
}

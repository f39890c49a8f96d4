import { closeSync, existsSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncFolder } from '../store/data-folder.ts';
import type { AuditCheckpoint } from '../store/tables.ts';
import { asCheckpoint, readJson, type Head } from './checkpoint.ts';

/** The file in the data folder with the checkpoints that this broker made, one a line, the last at the end. */
export const CHECKPOINT_FILE = 'audit-checkpoints.jsonl';

const USUAL_TAIL_BYTES = 65_536;

/** What a line outside of the database vouches for: a checkpoint, or how far one chain had come. */
export type Witness = { checkpoint: AuditCheckpoint } | { entry: Head };

/** Adds a checkpoint to the file, and waits until the disk has it. */
export function appendCheckpoint(file: string, checkpoint: AuditCheckpoint): void {
  const isNew = !existsSync(file);
  const handle = openSync(file, 'a+', 0o600);
  try {
    // A power cut may have left half a line; it must not take the next one with it.
    const broken = endsInLine(handle) ? '' : '\n';
    writeSync(handle, `${broken}${JSON.stringify({ auditCheckpoint: checkpoint })}\n`);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  if (isNew) syncFolder(dirname(file));
}

/** The latest checkpoint in the file; undefined when there is none. */
export function lastCheckpoint(file: string): AuditCheckpoint | undefined {
  if (!existsSync(file)) return undefined;
  const handle = openSync(file, 'r');
  try {
    const { size } = fstatSync(handle);
    // The end is enough, unless it was damaged, or a line is very long.
    for (let bytes = USUAL_TAIL_BYTES; ; bytes *= 16) {
      const tail = Buffer.alloc(Math.min(bytes, size));
      readSync(handle, tail, 0, tail.length, size - tail.length);
      const witnesses = tail.toString().split('\n').map(asWitness);
      const last = witnesses.findLast((witness) => witness !== undefined && 'checkpoint' in witness);
      if (last !== undefined && 'checkpoint' in last) return last.checkpoint;
      if (bytes >= size) return undefined;
    }
  } finally {
    closeSync(handle);
  }
}

/** Reads a file of checkpoints, an export, or the log of a broker; lines that are none of ours are passed over. */
export async function* readWitnesses(file: string): AsyncGenerator<Witness> {
  // Closed by itself when its last line was read, or when nobody reads on.
  const handle = await open(file);
  for await (const line of handle.readLines()) {
    const witness = asWitness(line);
    if (witness !== undefined) yield witness;
  }
}

function asWitness(line: string): Witness | undefined {
  // Most lines of a log are about something else.
  if (!line.includes('"audit')) return undefined;
  const { auditCheckpoint, auditEntry } = (readJson(line) ?? {}) as Record<string, unknown>;
  const checkpoint = asCheckpoint(auditCheckpoint);
  if (checkpoint !== undefined) return { checkpoint };
  const { chain, n, hash } = (auditEntry ?? {}) as Record<string, unknown>;
  if (typeof chain !== 'string' || typeof hash !== 'string' || !Number.isSafeInteger(n)) return undefined;
  return { entry: { chain, length: n as number, head: hash } };
}

function endsInLine(handle: number): boolean {
  const { size } = fstatSync(handle);
  const last = Buffer.alloc(1);
  return size === 0 || (readSync(handle, last, 0, 1, size - 1) === 1 && last[0] === '\n'.charCodeAt(0));
}

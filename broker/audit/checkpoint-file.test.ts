import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { appendCheckpoint, lastCheckpoint, readWitnesses, type Witness } from './checkpoint-file.ts';
import { signCheckpoint } from './checkpoint.ts';

const { privateKey } = generateKeyPairSync('ed25519');
const checkpoint = (n: number, heads = [{ chain: 'operator', length: n, head: 'ab' }]) =>
  signCheckpoint({ n, at: n, heads, previous: '' }, { id: 'audit-1', privateKey });

describe('the file of checkpoints', () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-checkpoints-'));
    file = join(folder, 'checkpoints.jsonl');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  async function read(): Promise<Witness[]> {
    const witnesses: Witness[] = [];
    for await (const witness of readWitnesses(file)) witnesses.push(witness);
    return witnesses;
  }

  it('grows by a line for each, and only its owner may read it', async () => {
    appendCheckpoint(file, checkpoint(1));
    appendCheckpoint(file, checkpoint(2));
    assert.deepEqual(await read(), [{ checkpoint: checkpoint(1) }, { checkpoint: checkpoint(2) }]);
    assert.deepEqual(lastCheckpoint(file), checkpoint(2));
    assert.equal(readFileSync(file, 'utf8').split('\n').length, 3);
    if (process.platform !== 'win32') assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  it('is not there before the first', () => {
    assert.equal(lastCheckpoint(file), undefined);
    writeFileSync(file, '');
    assert.equal(lastCheckpoint(file), undefined);
  });

  it('survives a line that a power cut left half written', async () => {
    appendCheckpoint(file, checkpoint(1));
    appendFileSync(file, JSON.stringify({ auditCheckpoint: checkpoint(2) }).slice(0, 50));
    assert.deepEqual(lastCheckpoint(file), checkpoint(1));
    appendCheckpoint(file, checkpoint(3));
    assert.deepEqual(lastCheckpoint(file), checkpoint(3));
    assert.equal((await read()).length, 2);
  });

  it('finds the last one behind lines of any length', () => {
    const long = checkpoint(
      1,
      Array.from({ length: 5000 }, (_, n) => ({ chain: `broker-${n}`, length: 1, head: 'ab'.repeat(32) })),
    );
    assert.ok(JSON.stringify(long).length > 400_000);
    appendCheckpoint(file, long);
    assert.deepEqual(lastCheckpoint(file), long);
    appendFileSync(file, `${'x'.repeat(3_000_000)}\n`);
    assert.deepEqual(lastCheckpoint(file), long);
  });

  it('may be the whole log of a broker, of which only what is ours is taken', async () => {
    const good = JSON.stringify({ severity: 'INFO', auditCheckpoint: checkpoint(7), message: 'audit checkpoint' });
    const entry = { chain: 'operator', n: 3, actor: 'a', action: 'b', target: 'c', request_id: null, hash: 'cd' };
    const lines = [
      'listening on 8080',
      '{"severity":"INFO","message":"GET /health"}',
      '"audit"',
      'null',
      '{"auditCheckpoint":null}',
      '{"auditCheckpoint":{"n":1}}',
      JSON.stringify({ auditCheckpoint: { ...checkpoint(1), n: '1' } }),
      JSON.stringify({ auditCheckpoint: { ...checkpoint(1), heads: [] } }),
      JSON.stringify({ auditEntry: { ...entry, n: 'three' } }),
      JSON.stringify({ auditEntry: { chain: 'operator', n: 3 } }),
      good.slice(0, -1),
      '',
      good,
      JSON.stringify({ auditEntry: entry }),
    ];
    writeFileSync(file, lines.join('\n'));
    assert.deepEqual(await read(), [
      { checkpoint: checkpoint(7) },
      { entry: { chain: 'operator', length: 3, head: 'cd' } },
    ]);
    assert.deepEqual(lastCheckpoint(file), checkpoint(7));
  });
});

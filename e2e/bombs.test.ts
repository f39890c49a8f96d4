import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createGzip, gzipSync } from 'node:zlib';
import { CHUNKED, pour, signedBytes, statusesIn, type Shape } from './raw-requests.ts';
import { openWorld, type World } from './world.ts';

const MiB = 2 ** 20;
const LIMIT = 25 * MiB;
// V8 and the allocator keep what they were given for a while; what counts is that it does not grow with the bomb.
const SLACK = 40 * MiB;
const SENT_AT_MOST = 1024 * MiB;

describe('a bomb', function () {
  this.timeout(120_000);
  let world: World;
  // The peak of a process can be read, and begun anew, only here.
  before(async function () {
    if (process.platform !== 'linux') this.skip();
    world = await openWorld({
      apart: true,
      limits: `limits: { body_bytes: ${LIMIT}, address: { burst: 1000000, per_second: 1000000 } }`,
    });
    // The largest that is taken, so that what V8 needs for it is there already.
    const largest = JSON.stringify({ model: 'gpt-4o', messages: [], x: 'x'.repeat(LIMIT - 100) });
    for (let i = 0; i < 3; i++) assert.equal((await world.ask({ body: largest })).status, 200);
  });
  after(() => world?.close());

  const proc = (file: string) => `/proc/${world.apart!.pid}/${file}`;
  const kibOf = (name: string) =>
    Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(readFileSync(proc('status'), 'utf8'))?.[1]);

  // Its own time, whatever else the machine has to do.
  const cpuMs = () => {
    const [, rest = ''] = readFileSync(proc('stat'), 'utf8').split(') ');
    const fields = rest.split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  };

  /** What the broker's memory grew by at its peak while this happened, and how long it took. */
  async function measured<Value>(
    what: string,
    act: () => Promise<Value>,
  ): Promise<Value & { cpu: number; grown: number }> {
    writeFileSync(proc('clear_refs'), '5');
    const before = kibOf('VmRSS');
    const [began, cpuBefore] = [performance.now(), cpuMs()];
    const value = await act();
    const ms = performance.now() - began;
    const cpu = cpuMs() - cpuBefore;
    const grown = (kibOf('VmHWM') - before) * 1024;
    console.log(`      ${what}: ${Math.round(ms)} ms, ${Math.round(grown / MiB)} MiB at the peak`);
    assert.equal((await world.ask({ path: '/liveness', signed: false })).status, 200);
    return { ...value, cpu, grown };
  }

  const chunk = (size: number) => Buffer.from(`${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`);

  const gibibyte = `Content-Length: ${1024 * MiB}`;
  const crumbs = Buffer.concat(Array<Buffer>(10_000).fill(chunk(1)));
  const ENDLESS: [what: string, shape: Shape, piece: Buffer, room: number, status: number][] = [
    ['a body of endless chunks', { framing: CHUNKED }, chunk(64 * 1024), LIMIT, 413],
    ['a body of endless chunks of one byte', { framing: CHUNKED }, crumbs, LIMIT, 400],
    ['a body of 1 GiB that says so', { framing: [gibibyte] }, Buffer.alloc(MiB, 'x'), 0, 413],
    [
      'a body of 1 GiB that waits for leave',
      { framing: [gibibyte, 'Expect: 100-continue'] },
      Buffer.alloc(MiB, 'x'),
      0,
      413,
    ],
  ];
  for (const [what, shape, piece, room, status] of ENDLESS) {
    it(`is refused with ${status}, and costs no more than the limit: ${what}`, async () => {
      const head = signedBytes(world.authority, { ...shape, wire: '' });
      const { said, sent, grown } = await measured(what, () => pour(world.port, head, piece, SENT_AT_MOST));
      assert.deepEqual(statusesIn(said), [status], said);
      assert.match(said, /connection: close/i);
      assert.ok(grown < room + SLACK, `${grown} bytes more`);
      assert.ok(sent < SENT_AT_MOST / 2, `${sent} bytes were taken`);
    });
  }

  it('is refused without a look inside: a body of 10 GiB in gzip', async () => {
    // 16 MiB of nothing, again and again: a file may have many members (RFC 1952 2.2).
    const body = Buffer.concat(Array<Buffer>(640).fill(gzipSync(Buffer.alloc(16 * MiB))));
    const head = signedBytes(world.authority, { body, extra: ['Content-Encoding: gzip'], wire: '' });
    const what = `a body of 10 GiB in ${Math.round(body.length / MiB)} MiB of gzip`;
    const { said, cpu, grown } = await measured(what, () => pour(world.port, head, body, 1));
    assert.deepEqual(statusesIn(said), [415]);
    assert.match(said, /"code":"body_encoded"/);
    assert.ok(cpu < 1000 && grown < SLACK, `${cpu} ms of CPU, ${grown} bytes more`);
  });

  const names = (count: number) => Array.from({ length: count }, (_, i) => `"n${i}":0`).join();
  const head = '{"model":"gpt-4o","messages":[]';
  for (const [what, body] of [
    ['a million levels of lists', `${head},"x":${'['.repeat(1e6)}${']'.repeat(1e6)}}`],
    ['a million levels of objects', `${head},"x":${'{"a":'.repeat(1e6)}1${'}'.repeat(1e6)}}`],
    ['a million levels that never close', `${head},"x":${'['.repeat(1e6)}`],
    ['a million names', `${head},${names(1e6)}}`],
    ['a million names in one object inside', `${head},"x":{${names(1e6)}}}`],
    ['five million numbers', `${head},"x":[${Array(5e6).fill(0).join()}]}`],
    ['a million names in disguise', `${head},${names(1e6).replaceAll('"n', '"\\u006e')}}`],
    ['a number of 20 million digits', `${head},"x":${'9'.repeat(2e7)}}`],
  ] as const) {
    it(`is refused within a second: ${what}`, async () => {
      const { status, error, cpu, grown } = await measured(what, () => world.ask({ body }));
      assert.deepEqual([status, error.code], [400, 'json_malformed']);
      // The body itself, once in pieces and once joined, and what the names need until there are too many.
      assert.ok(cpu < 1000 && grown < 2 * body.length + 2 * SLACK, `${cpu} ms of CPU, ${grown} bytes more`);
    });
  }

  it('is not opened when it comes from the vendor: 10 GiB in gzip', async () => {
    let sent = 0;
    world.vendor.answerWith((_, __, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' });
      const packed = createGzip();
      packed.on('data', (data: Buffer) => (sent += data.length)).pipe(response);
      response.on('close', () => packed.destroy());
      const nothing = Buffer.alloc(16 * MiB);
      const more = () => {
        while (!packed.destroyed && packed.write(nothing));
        if (!packed.destroyed) packed.once('drain', more);
      };
      more();
    });
    const { status, error, cpu, grown } = await measured('an answer of 10 GiB in gzip', () => world.chat());
    assert.deepEqual([status, error.code], [502, 'upstream_garbled']);
    assert.ok(
      cpu < 1000 && grown < SLACK && sent < MiB,
      `${cpu} ms of CPU, ${grown} bytes more, ${sent} bytes from the vendor`,
    );
  });
});

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { oneOf, picksOf, type Pick } from '../protocol/random-requests.test-support.ts';
import { HARMLESS_BODIES, REFUSED_BODIES } from './hostile-bodies.ts';
import { HARMLESS_REQUESTS, REFUSED_REQUESTS } from './hostile-requests.ts';
import { mutate } from './mutate.ts';
import { converse, sign, statusesIn, type Shape, type SignedBytes, type Written } from './raw-requests.ts';
import { openWorld, type World } from './world.ts';

// Requests that were rightly signed, and those of the tables, changed at random: whatever comes of it is refused in one of a
// few ways, or the change touched nothing that counts, and then the vendor sees the very body that was signed.
// One case again: SEED=<seed> FUZZ_FIRST=<case> FUZZ_CASES=1.

const { PROVE, SEED = '20261', FUZZ_FIRST = '0', FUZZ_CASES } = process.env;
const HOW_MANY = Number(FUZZ_CASES ?? (PROVE === 'full' ? 1_000_000 : 20_000));
const AT_ONCE = 200;
// So long may the broker be silent before the caller's half is closed. Until then a request that can be answered must be.
const SILENCE_MS = 1500;

const REFUSALS = new Set([400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 421, 429, 431]);

const CHANGED: Written[] = [...REFUSED_REQUESTS, ...REFUSED_BODIES].map(([, written]) => written);
const WHOLE: Written[] = [
  ...[...HARMLESS_REQUESTS, ...HARMLESS_BODIES].map(([, written]) => written),
  {},
  { extra: ['User-Agent: some client/1.0', 'Accept: */*', 'Accept-Encoding: gzip', 'X-Request-Id: 1'] },
  { method: 'GET', target: '/v1/models' },
  { method: 'GET', target: '/p/product-a/v1/models?after=a&limit=5' },
];

type Source = { bytes: Buffer; signed?: SignedBytes };

describe('a request changed at random', function () {
  this.timeout(45 * 60_000);
  let world: World;
  const uncaught: unknown[] = [];
  const note = (error: unknown) => void uncaught.push(error);
  before(async () => {
    process.on('uncaughtExceptionMonitor', note);
    // The vendor says which body it saw, so that no answer can be taken for another's.
    world = await openWorld({
      vendor: (_, body, response) =>
        response.end(JSON.stringify({ seen: createHash('sha256').update(body).digest('hex') })),
    });
  });
  after(async () => {
    process.off('uncaughtExceptionMonitor', note);
    await world.close();
  });

  function source(pick: Pick): Source {
    const written = oneOf(pick, pick(2) === 0 ? WHOLE : CHANGED);
    const made = typeof written === 'function' ? written(world.authority) : written;
    if (typeof made === 'string') return { bytes: Buffer.from(made, 'latin1') };
    // Short-lived, so that the broker need not remember a million of them.
    const created = Math.floor(Date.now() / 1000);
    const signed = sign(world.authority, { ...made, moment: { created, expires: created + 10 } } satisfies Shape);
    return { bytes: signed.bytes, signed };
  }

  const tally = new Map<string, number>();
  const count = (what: string) => void tally.set(what, (tally.get(what) ?? 0) + 1);

  async function tryCase(number: number): Promise<void> {
    const pick = picksOf(Number(SEED) + Math.imul(number, 0x9e3779b1));
    const [one, two] = [source(pick), source(pick)];
    const bytes = mutate(one.bytes, pick, two.bytes);
    const said = await converse(world.port, bytes, SILENCE_MS);
    const fail = (why: string) =>
      assert.fail(
        `SEED=${SEED} FUZZ_FIRST=${number} FUZZ_CASES=1: ${why}\n${JSON.stringify(bytes.toString('latin1').slice(0, 3000))}\n${said}`,
      );

    const statuses = statusesIn(said).filter((status) => status !== 100);
    if (statuses.length === 0) {
      // An incomplete request is refused when its sender closes its half. Empty lines are not even the beginning of one.
      if (!/^[\r\n]*$/.test(bytes.toString('latin1'))) fail('no answer');
      return count('nothing asked');
    }
    for (const status of statuses) {
      if (status !== 200 && !REFUSALS.has(status)) fail(`answered ${status}`);
      count(String(status));
    }
    const seen = Array.from(said.matchAll(/"seen":"(\w+)"/g), ([, digest]) => digest!);
    const isList = said.includes('"object":"list"');
    if (seen.length === 0 && !isList) return;
    const signed = [one, two].flatMap(({ signed: made }) => (made && isUntouched(bytes, made) ? [made] : []));
    if (signed.length === 0) fail('served, though something that is signed had changed');
    for (const digest of seen) {
      count('served the body that was signed');
      vendorAnswered++;
      if (!signed.some(({ body }) => createHash('sha256').update(body).digest('hex') === digest))
        fail('another body was served');
    }
  }
  let vendorAnswered = 0;

  it(`is refused, or is still what was signed: ${HOW_MANY} times`, async () => {
    const prototype = Object.getOwnPropertyNames(Object.prototype).join();
    const startedMs = performance.now();
    let next = Number(FUZZ_FIRST);
    const end = next + HOW_MANY;
    const held: number[] = [];
    let vendorCalls = 0;
    const worker = async () => {
      while (next < end) {
        // What is held after a tenth of it must do for the rest.
        if (next === end - Math.floor(HOW_MANY * 0.9)) held.push(process.memoryUsage.rss());
        await tryCase(next++);
        assert.equal(Object.getOwnPropertyNames(Object.prototype).join(), prototype);
        world.log.length = 0;
        vendorCalls += world.vendor.requests.splice(0).length;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    assert.deepEqual(uncaught, []);
    assert.equal(vendorCalls, vendorAnswered, 'the vendor was asked as often as an answer of its own came back');
    assert.equal((await world.ask({ path: '/liveness', signed: false })).status, 200);
    const counts = [...tally].toSorted().map(([what, times]) => `${what}: ${times}`);
    const seconds = Math.round((performance.now() - startedMs) / 1000);
    held.push(process.memoryUsage.rss());
    const mebibytes = held.map((bytes) => Math.round(bytes / 2 ** 20)).join(' and then ');
    console.log(`      ${HOW_MANY} cases in ${seconds} s, seed ${SEED}, ${mebibytes} MiB held; ${counts.join(', ')}`);
  });
});

/** Whether everything that the signature covers in the head still stands there as it was signed. */
function isUntouched(bytes: Buffer, { firstWords, covered }: SignedBytes): boolean {
  const lines = bytes.toString('latin1').split('\r\n');
  const fields = new Set(
    lines.map((line) =>
      line.replace(/^([^:]*):[ \t]*(.*?)[ \t]*$/s, (_, name, value) => `${name.toLowerCase()}: ${value}`),
    ),
  );
  return (
    covered.every((field) => fields.has(field)) &&
    lines.some((line) =>
      line
        .replace(/^[\r\n]+/, '')
        .replace(/ +/g, ' ')
        .startsWith(`${firstWords} `),
    )
  );
}

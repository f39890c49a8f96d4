import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { createSignatureSync, verifySignature, type RequestDescriptor } from 'http-message-sig';
import { createVerifier, httpbis } from 'http-message-signatures';
import { contentDigest } from './content-digest.ts';
import { signBytes, verifiesBytes } from './keys.ts';
import { LIFETIME_SECONDS, signRequest } from './profile.ts';
import {
  ED25519,
  asText,
  isAccepted,
  oneOf,
  picksOf,
  randomBytesOf,
  randomHmacPair,
  randomRequest,
  signed,
  withFields,
  type KeyPair,
  type Pick,
  type Sent,
} from './random-requests.test-support.ts';

// Two libraries of other people read RFC 9421 as we do, or one of us is wrong. Both are told our policy as far as they can
// be told, and neither sees our code. Where they differ from us and from each other:
//
//   http-message-sig 0.3.0 (strict in form) refuses duplicate labels, parameters and components, component parameters other
//   than `;key`, unequal sets of labels in the two headers, and anything of RFC 9651, in other people's labels too. It is lax
//   in spelling (spaces, `created=1.0`, padding, unused bits), in what must be covered beyond a fixed
//   list, and takes any nonce, any lifetime and any number of components.
//
//   http-message-signatures 1.0.6 (lax in form) keeps the last of two equal labels or parameters, accepts a component twice,
//   `"@method";req` if the request is given as its own context, parameters on the Signature, and any company; it puts the
//   method in capitals itself, and rebuilds path and query with `new URL`, which writes `'` as `%27` and so cannot verify it.
//
// So one alone is no upper bound for us: the first refuses company that we leave alone, the second refuses a legal query.

const NOW = 1767225600;
const RUNS = process.env.PROVE === 'full' ? 20_000 : 400;
const ALWAYS = ['@method', '@authority', '@path', '@query'];
const PARAMETERS = ['created', 'expires', 'nonce', 'keyid', 'alg', 'tag'];

const urlOf = ({ authority, path, query }: Sent) => `https://${authority}${path}${query}`;

function descriptorOf(sent: Sent): RequestDescriptor {
  const fields = Array.from(sent.fields, ([name, value]) => ({ name, value }));
  return { kind: 'request', method: sent.method, targetUri: urlOf(sent), fields };
}

function requiredOf(sent: Sent): string[] {
  const covered = /^(?:content-type|content-digest|idempotency-key|x-sallyport-.*)$/;
  return [...ALWAYS, ...[...sent.fields.keys()].filter((name) => covered.test(name))];
}

// Every key id leads to the one key there is: which row it leads to is the broker's business.
type Verdict = { isAccepted: boolean; why?: unknown };

async function byHttpMessageSig(sent: Sent, { verifier }: KeyPair): Promise<Verdict> {
  try {
    await verifySignature(descriptorOf(sent), {
      label: 'sp',
      policy: {
        algorithms: [verifier.algorithm],
        requiredComponents: requiredOf(sent),
        requiredParameters: PARAMETERS,
        maxAge: 300,
        clockSkew: 5,
        now: NOW,
        validate: ({ parameters }) => parameters.tag === 'sallyport-v1',
      },
      resolveVerifier: () => ({
        algorithm: verifier.algorithm,
        verify: (data, signature) => verifiesBytes(Buffer.from(data).toString(), Buffer.from(signature), verifier),
      }),
    });
    return { isAccepted: true };
  } catch (why) {
    return { isAccepted: false, why };
  }
}

async function byHttpMessageSignatures(sent: Sent, { verifier }: KeyPair): Promise<Verdict> {
  const key = { algs: [verifier.algorithm], verify: createVerifier(verifier.key, verifier.algorithm) };
  const config = {
    keyLookup: async ({ tag }: { tag?: string }) => (tag === 'sallyport-v1' ? key : null),
    requiredFields: requiredOf(sent),
    requiredParams: PARAMETERS,
    // It reads the clock itself; our window has a table of its own in profile.test.ts.
    tolerance: 1e12,
  };
  try {
    const headers = Object.fromEntries(sent.fields);
    return {
      isAccepted: (await httpbis.verifyMessage(config, { method: sent.method, url: urlOf(sent), headers })) === true,
    };
  } catch (why) {
    return { isAccepted: false, why };
  }
}

const randomPair = (pick: Pick) => (pick(4) === 0 ? ED25519 : randomHmacPair(pick));

describe('the libraries of other people', () => {
  it('accept what we sign, both of them, and nothing of it at another path', async () => {
    const met = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        const pick = picksOf(seed);
        const keys = randomPair(pick);
        const sent = signed(pick, randomRequest(pick), keys, NOW);
        const elsewhere = { ...sent, path: `${sent.path}x` };
        assert.equal(isAccepted(sent, keys, NOW), true);
        for (const verify of [byHttpMessageSig, byHttpMessageSignatures]) {
          assert.deepEqual(await verify(sent, keys), { isAccepted: true }, `${verify.name}: ${asText(sent)}`);
          assert.equal((await verify(elsewhere, keys)).isAccepted, false, verify.name);
        }
        met.add(keys.verifier.algorithm).add(sent.body === undefined ? 'no body' : 'a body');
        met.add(sent.query === '' ? 'no query' : 'a query');
        for (const name of sent.fields.keys()) if (name.startsWith('x-s')) met.add('x-sallyport');
        if (sent.fields.has('idempotency-key')) met.add('idempotency-key');
      }),
      { numRuns: RUNS },
    );
    assert.equal(met.size, 8, [...met].join());
  });

  it('sign what we accept, byte for byte what we sign ourselves', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const pick = picksOf(seed);
        const keys = randomPair(pick);
        const { verifier, signer } = keys;
        const request = randomRequest(pick);
        const digest = request.body === undefined ? {} : { 'content-digest': contentDigest(request.body) };
        const unsigned = withFields(request, digest);
        const nonce = randomBytesOf(pick, 16).toString('base64url');
        const contentFirst = (name: string) => Number(!name.startsWith('content-'));
        const components = requiredOf(unsigned);
        const rest = components.slice(4).toSorted((one, other) => contentFirst(one) - contentFirst(other));
        const { signature, signatureInput } = createSignatureSync(descriptorOf(unsigned), {
          label: 'sp',
          components: [...components.slice(0, 4), ...rest],
          parameters: {
            created: NOW,
            expires: NOW + LIFETIME_SECONDS,
            nonce,
            keyid: signer.keyid,
            alg: verifier.algorithm,
            tag: 'sallyport-v1',
          },
          signer: { algorithm: verifier.algorithm, sign: (data) => signBytes(Buffer.from(data).toString(), signer) },
        });
        const theirs = { signature, 'signature-input': signatureInput };
        const ours = signRequest({ ...request, fields: Object.fromEntries(request.fields) }, signer, {
          created: NOW,
          nonce,
        });
        assert.deepEqual({ ...digest, ...theirs }, ours);
        assert.equal(isAccepted(withFields(unsigned, theirs), keys, NOW), true);
        assert.equal(isAccepted(withFields({ ...unsigned, path: '/x' }, theirs), keys, NOW), false);
      }),
      { numRuns: RUNS },
    );
  });

  it('sign what we accept, in an order of their own', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        const pick = picksOf(seed);
        const keys = randomPair(pick);
        const request = randomRequest(pick);
        const digest = request.body === undefined ? {} : { 'content-digest': contentDigest(request.body) };
        const unsigned = withFields(request, digest);
        const { headers } = await httpbis.signMessage(
          {
            name: 'sp',
            key: {
              id: keys.signer.keyid,
              alg: keys.signer.algorithm,
              sign: async (data) => signBytes(data.toString(), keys.signer),
            },
            fields: requiredOf(unsigned).toReversed(),
            params: PARAMETERS.toReversed(),
            paramValues: {
              created: new Date(NOW * 1000),
              expires: new Date((NOW + 300) * 1000),
              nonce: randomBytesOf(pick, 16).toString('base64url'),
              tag: 'sallyport-v1',
            },
          },
          { method: unsigned.method, url: urlOf(unsigned), headers: Object.fromEntries(unsigned.fields) },
        );
        const sent = withFields(unsigned, headers as Record<string, string>);
        assert.equal(isAccepted(sent, keys, NOW), true, asText(sent));
        assert.equal(isAccepted({ ...sent, method: 'TRACE' }, keys, NOW), false);
      }),
      { numRuns: RUNS },
    );
  });

  const spellings: [
    what: string,
    change: (raw: string) => string,
    of: string,
    ours: boolean,
    strict: boolean,
    lax: boolean,
  ][] = [
    ['nothing changed', (raw) => raw, 'signature', true, true, true],
    ['two spaces for one', (raw) => raw.replace(' ', '  '), 'signature-input', false, true, true],
    ['a space after a semicolon', (raw) => raw.replace(';nonce', '; nonce'), 'signature-input', false, true, true],
    ['a decimal for a number', (raw) => raw.replace(/(created=\d+)/, '$1.0'), 'signature-input', false, true, true],
    ['a parameter twice', (raw) => `${raw};tag="sallyport-v1"`, 'signature-input', false, false, true],
    ['a label twice', (raw) => `${raw}, ${raw}`, 'signature-input', false, false, true],
    ['padding dropped', (raw) => raw.replace(/=+:$/, ':'), 'signature', false, true, true],
    ['a space behind', (raw) => `${raw} `, 'signature', false, true, true],
    ['a label twice in the signature', (raw) => `sp=:AA==:, ${raw}`, 'signature', false, false, true],
    ['company in one header only', (raw) => `${raw}, a=()`, 'signature-input', true, false, true],
    ['company beyond RFC 8941 in both', (raw) => `${raw}, a=@1`, 'signature', true, false, true],
  ];
  for (const [what, change, of, ours, strict, lax] of spellings) {
    it(`take or refuse, as the comment above says: ${what}`, async () => {
      const pick = picksOf(2);
      const keys = randomHmacPair(pick);
      const sent = signed(pick, randomRequest(pick), keys, NOW);
      const spelled = withFields(sent, { [of]: change(sent.fields.get(of)!) });
      assert.equal(isAccepted(spelled, keys, NOW), ours, 'ours');
      assert.equal((await byHttpMessageSig(spelled, keys)).isAccepted, strict, 'http-message-sig');
      assert.equal((await byHttpMessageSignatures(spelled, keys)).isAccepted, lax, 'http-message-signatures');
    });
  }

  it('differ over an apostrophe in the query, which is legal, and which we carry', async () => {
    const pick = picksOf(1);
    const keys = randomHmacPair(pick);
    const sent = signed(pick, { ...randomRequest(pick), query: "?name='x'" }, keys, NOW);
    assert.equal(isAccepted(sent, keys, NOW), true);
    assert.equal((await byHttpMessageSig(sent, keys)).isAccepted, true);
    assert.equal((await byHttpMessageSignatures(sent, keys)).isAccepted, false);
  });
});

const COMPONENTS = [
  ...ALWAYS,
  '@target-uri',
  '@scheme',
  '@request-target',
  '@status',
  'accept',
  'host',
  'date',
  'absent',
];

function valueOf(sent: Sent, name: string): string {
  const derived: Record<string, string> = {
    '@method': sent.method,
    '@authority': sent.authority,
    '@path': sent.path,
    '@query': sent.query || '?',
    '@target-uri': urlOf(sent),
    '@scheme': 'https',
    '@request-target': `${sent.path}${sent.query}`,
    '@status': '200',
  };
  return derived[name] ?? sent.fields.get(name) ?? '';
}

/** What a holder of the key may sign who follows no profile: the MAC is right over whatever is said, in whatever spelling. */
function randomForgery(pick: Pick, { signer }: KeyPair): Sent {
  const request = randomRequest(pick);
  const digest = request.body === undefined || pick(12) === 0 ? undefined : contentDigest(request.body);
  const plain = withFields(request, { host: request.authority, date: 'now', 'content-digest': digest });
  const seldom = (one: number) => pick(one) === 0;

  let names = requiredOf(plain);
  if (seldom(3)) names = names.toSorted(() => pick(3) - 1);
  if (seldom(8)) names = names.toSpliced(pick(names.length), 1);
  if (seldom(6)) names = names.toSpliced(pick(names.length), 0, oneOf(pick, [...COMPONENTS, ...names]));
  const identifiers = names.map((name) => {
    const spelled = seldom(60) ? name.toUpperCase() : name;
    return `"${spelled}"${seldom(60) ? oneOf(pick, [';req', ';sf', ';bs', ';key="a"', ';x']) : ''}`;
  });

  const odd = (usual: string, others: readonly string[]) => (seldom(20) ? oneOf(pick, others) : usual);
  const created = NOW - pick(3);
  let parameters = [
    `created=${odd(`${created}`, [`${created}.0`, `"${created}"`, `${NOW + 9}`, `0${created}`, '1', `@${created}`])}`,
    `expires=${odd(`${created + 1 + pick(300)}`, [`${created}`, `${created + 301}`, `${NOW + 9}.0`, `"${NOW + 9}"`])}`,
    `nonce=${odd(`"${randomBytesOf(pick, 16).toString('base64url')}"`, ['"a"', '""', 'abc', ':AAAA:'])}`,
    `keyid=${odd(`"${signer.keyid}"`, ['"other"', 'desktop'])}`,
    `alg=${odd(`"${signer.algorithm}"`, ['"hmac-sha256"', '"ed25519"', '"none"', 'ed25519'])}`,
    `tag=${odd('"sallyport-v1"', ['"sallyport-device-v1"', 'sallyport-v1', '""'])}`,
  ];
  if (seldom(3)) parameters = parameters.toSorted(() => pick(3) - 1);
  if (seldom(10)) parameters = parameters.toSpliced(pick(6), 1);
  if (seldom(10)) parameters.splice(pick(7), 0, oneOf(pick, ['x=1', 'x', 'created=1', `keyid="${signer.keyid}"`]));

  const text = `(${identifiers.join(' ')});${parameters.join(';')}`;
  const lines = names.map((name, i) => `${identifiers[i]}: ${valueOf(plain, name)}\n`);
  const bytes = signBytes(`${lines.join('')}"@signature-params": ${text}`, signer);
  const company = odd('', [
    ', a=("@method");tag="b"',
    ', a=();tag="sallyport-v1"',
    ', a=1',
    ', a',
    ', sp=()',
    ', a=@1',
    ',a=()',
    ',',
  ]);
  const fellow = odd('', [', a=:AA==:', ', a=1', ', sp=:AA==:', ', a=:AB==:', ';x=1', ',a=:AA==:']);
  const raw = `sp=${text}${company}`;
  const spelled = seldom(12) ? respelled(pick, raw) : raw;
  const signature = `sp=:${bytes.toString('base64')}:${fellow}`;
  return withFields(plain, {
    'signature-input': spelled,
    signature: seldom(12) ? signature.replace(/=+:/, oneOf(pick, [':', '==:', '=: '])) : signature,
  });
}

function respelled(pick: Pick, raw: string): string {
  const index = pick(raw.length);
  return (
    raw.slice(0, index) +
    oneOf(pick, [raw[index]!.toUpperCase(), '', ` ${raw[index]}`, 'a', '"']) +
    raw.slice(index + 1)
  );
}

describe('what we accept', () => {
  it('is accepted by at least one of the two libraries, whatever the holder of a key signs', async () => {
    const met = { ours: 0, refusedByUsAlone: 0, oursByOneAlone: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        const pick = picksOf(seed);
        const keys = randomPair(pick);
        const sent = randomForgery(pick, keys);
        const [strict, lax] = await Promise.all([byHttpMessageSig(sent, keys), byHttpMessageSignatures(sent, keys)]);
        const isTheirs = strict.isAccepted || lax.isAccepted;
        if (!isAccepted(sent, keys, NOW)) {
          if (isTheirs) met.refusedByUsAlone++;
          else met.refused++;
          return;
        }
        met.ours++;
        if (strict.isAccepted !== lax.isAccepted) met.oursByOneAlone++;
        assert.ok(isTheirs, `${asText(sent)}: ${String(strict.why)}; ${String(lax.why)}`);
      }),
      { numRuns: RUNS * 5 },
    );
    // Every one of these must be common, or the comparison would compare little: we accept, we alone refuse, all refuse.
    for (const [what, count] of Object.entries(met)) assert.ok(count >= RUNS / 100, `${what}: ${JSON.stringify(met)}`);
  });
});

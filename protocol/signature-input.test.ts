import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { ApiError } from './errors.ts';
import { oneOf, picksOf, randomText, type Pick } from './random-requests.test-support.ts';
import { malformed, readAny, readSignatureInput } from './signature-input.ts';

const NONCE = 'AAECAwQFBgcICQoLDA0ODw';
const REST = `expires=1767225660;nonce="${NONCE}";keyid="desktop";alg="hmac-sha256";tag="sallyport-v1"`;
const PARAMETERS = `created=1767225600;${REST}`;
const COVERED = '"@method" "@authority" "@path" "@query"';
const GOOD = `sp=(${COVERED});${PARAMETERS}`;

const change = (from: string, to: string) => {
  assert.ok(GOOD.includes(from), from);
  return GOOD.replace(from, to);
};

const SPELLING = 'Signature-Input is not in its one canonical spelling';
const MOMENT = 'created and expires are whole seconds since 1970';
const BAD_NONCE = 'nonce is not 128 bits in base64url';
const BAD_KEYID = 'keyid is not a key id';
const BAD_TEXT = 'alg and tag are strings';
const TWO = 'two signatures carry one tag';
const UNKNOWN = 'it has a parameter that is not known';
const COMPONENT = 'component parameters such as ;sf or ;req are not accepted';

const refused: [what: string, raw: string, why: string][] = [
  ['nothing', '', 'there is no member "sp" in Signature-Input'],
  ['another label', change('sp=', 'sig1='), 'there is no member "sp" in Signature-Input'],
  ['our label in capitals', change('sp=', 'SP='), SPELLING],
  ['a label without a value', 'sp', '"sp" is not a list of components'],
  ['a label with parameters alone', `sp;${PARAMETERS}`, '"sp" is not a list of components'],
  ['one item for a list', `sp="@method";${PARAMETERS}`, '"sp" is not a list of components'],
  ['our label twice', `${GOOD}, ${GOOD}`, SPELLING],
  ['our label twice, the first one empty', `sp=(), ${GOOD}`, SPELLING],
  ['a second signature with our tag', `${GOOD}, other=();tag="sallyport-v1"`, TWO],
  ['a first signature with our tag', `other=();tag="sallyport-v1", ${GOOD}`, TWO],
  ['five labels', `${GOOD}, a=(), b=(), c=(), d=()`, SPELLING],
  ['more than 2 KiB', `${GOOD}, other=("${'x'.repeat(2048)}")`, SPELLING],

  ['a space before', ` ${GOOD}`, SPELLING],
  ['a space behind', `${GOOD} `, SPELLING],
  ['a line feed behind', `${GOOD}\n`, SPELLING],
  ['a comma behind', `${GOOD},`, SPELLING],
  ['two spaces between components', change('"@method" ', '"@method"  '), SPELLING],
  ['a space inside the bracket', change('("', '( "'), SPELLING],
  ['a space after a semicolon', change(';expires', '; expires'), SPELLING],
  ['a space before a semicolon', change(';expires', ' ;expires'), SPELLING],
  ['a tab after the comma', `${GOOD},\tother=()`, SPELLING],
  ['no space after the comma', `${GOOD},other=()`, SPELLING],
  ['a parameter in capitals', change('created', 'Created'), SPELLING],
  ['an escape that need not be', change('"desktop"', '"desk\\top"'), SPELLING],
  ['a character beyond ASCII', change('desktop', 'désktop'), SPELLING],
  ['quotes of another kind', change('"desktop"', "'desktop'"), SPELLING],
  ['an open quote', GOOD.slice(0, -1), SPELLING],

  ['a component that is a token', change('"@query"', 'query'), 'a component is not a string'],
  ['a component that is bytes', change('"@query"', ':AAAA:'), 'a component is not a string'],
  ['a component that is a number', change('"@query"', '1'), 'a component is not a string'],
  ['a component that is a truth', change('"@query"', '?1'), 'a component is not a string'],
  ...['req', 'sf', 'bs', 'tr', 'key="a"', 'name="a"', 'x', 'req=?0'].map((name): [string, string, string] => [
    `a component with ;${name}`,
    change('"@query"', `"@query";${name}`),
    COMPONENT,
  ]),

  ['no created', change('created=1767225600;', ''), 'the parameter created is missing'],
  ['no expires', change('expires=1767225660;', ''), 'the parameter expires is missing'],
  ['no nonce', change(`;nonce="${NONCE}"`, ''), 'the parameter nonce is missing'],
  ['no keyid', change(';keyid="desktop"', ''), 'the parameter keyid is missing'],
  ['no alg', change(';alg="hmac-sha256"', ''), 'the parameter alg is missing'],
  ['no tag', change(';tag="sallyport-v1"', ''), 'the parameter tag is missing'],
  ['a parameter more', `${GOOD};x=1`, UNKNOWN],
  ['a parameter more, without a value', `${GOOD};x`, UNKNOWN],
  ['a parameter more, in front', change(';created', ';a=1;created'), UNKNOWN],
  ['a parameter twice', `${GOOD};created=1767225600`, SPELLING],
  ['a parameter twice, with two values', change(';created', ';created=1;created'), SPELLING],

  ['created as a string', change('1767225600', '"1767225600"'), MOMENT],
  ['created as a decimal', change('1767225600', '1767225600.5'), MOMENT],
  ['created as a date', change('1767225600', '@1767225600'), SPELLING],
  ['created as bytes', change('1767225600', ':AAAA:'), MOMENT],
  ['created as a token', change('1767225600', 'now'), MOMENT],
  ['created without a value', change('=1767225600', ''), MOMENT],
  ['created before 1970', change('1767225600', '-1'), MOMENT],
  ['expires as a string', change('1767225660', '"1767225660"'), MOMENT],
  ['expires as a decimal', change('1767225660', '1767225660.125'), MOMENT],
  ['a whole decimal', change('1767225600', '1767225600.0'), SPELLING],
  ['a leading zero', change('1767225600', '01767225600'), SPELLING],
  ['a zero below zero', change('1767225600', '-0'), SPELLING],
  ['a plus sign', change('1767225600', '+1767225600'), SPELLING],
  ['sixteen digits', change('1767225600', '1'.repeat(16)), SPELLING],

  ['a nonce as a token', change(`"${NONCE}"`, NONCE), BAD_NONCE],
  ['a nonce as bytes', change(`"${NONCE}"`, `:${Buffer.alloc(16).toString('base64')}:`), BAD_NONCE],
  ['a nonce of 21 characters', change(NONCE, NONCE.slice(1)), BAD_NONCE],
  ['a nonce of 23 characters', change(NONCE, `A${NONCE}`), BAD_NONCE],
  ['a nonce with a last character that carries more', change(NONCE, `${NONCE.slice(0, -1)}x`), BAD_NONCE],
  ['a nonce with padding', change(NONCE, `${NONCE}==`), BAD_NONCE],
  ['a nonce in plain base64', change(NONCE, `+/${NONCE.slice(2)}`), BAD_NONCE],
  ['an empty nonce', change(NONCE, ''), BAD_NONCE],
  ['a key id as a token', change('"desktop"', 'desktop'), BAD_KEYID],
  ['an empty key id', change('desktop', ''), BAD_KEYID],
  ['a key id with a space', change('desktop', 'desk top'), BAD_KEYID],
  ['a key id with a slash', change('desktop', '../desktop'), BAD_KEYID],
  ['a key id with a quote', change('desktop', 'desk\\"top'), BAD_KEYID],
  ['a key id of 65 characters', change('desktop', 'k'.repeat(65)), BAD_KEYID],
  ['an algorithm as a token', change('"hmac-sha256"', 'hmac-sha256'), BAD_TEXT],
  ['an algorithm without a value', change('="hmac-sha256"', ''), BAD_TEXT],
  ['a tag as a token', change('"sallyport-v1"', 'sallyport-v1'), BAD_TEXT],
  ['a tag as a text of RFC 9651', change('"sallyport-v1"', '%"sallyport-v1"'), BAD_TEXT],
];

const accepted: [what: string, raw: string][] = [
  ['the form every signer writes', GOOD],
  ['another order of parameters', `sp=(${COVERED});tag="sallyport-v1";${PARAMETERS.replace(/;tag=.*/, '')}`],
  ['company behind', `${GOOD}, sig1=("@method");created=1;keyid="desktop";tag="sallyport-device-v1"`],
  ['company in front', `sig1=("@method";req "@query-param";name="a");tag="web-bot-auth", ${GOOD}`],
  ['company without a tag, and of other kinds', `${GOOD}, a=1, b, c=:AAAA:`],
  ['no components at all, which the profile refuses', change(COVERED, '')],
  ['names that the profile refuses', change(COVERED, '"@status" "" "A b"')],
  ['the first second of 1970', change('1767225600', '0')],
  ['twelve digits', change('1767225600', '9'.repeat(12))],
  ['fifteen digits', change('1767225600', '9'.repeat(15))],
  ['a key id of 64 characters', change('desktop', 'k'.repeat(64))],
  ['an algorithm and a tag that the profile refuses', change('"hmac-sha256"', '"RSA \\\\ v1"')],
];

describe('Signature-Input', () => {
  it('gives what was said, and the signed text as it was sent', () => {
    assert.deepEqual(readSignatureInput(GOOD), {
      components: ['@method', '@authority', '@path', '@query'],
      text: GOOD.slice('sp='.length),
      created: 1767225600,
      expires: 1767225660,
      nonce: NONCE,
      keyid: 'desktop',
      algorithm: 'hmac-sha256',
      tag: 'sallyport-v1',
    });
  });

  for (const [what, raw, why] of refused) {
    it(`refuses ${what}`, () => {
      const { code, message } = malformed(why);
      assert.throws(() => readSignatureInput(raw), { code, message });
    });
  }

  for (const [what, raw] of accepted) {
    it(`reads ${what}`, () => {
      const { text } = readSignatureInput(raw);
      assert.ok(raw.split(', ').includes(`sp=${text}`), text);
    });
  }

  it('reads 2,048 characters and not one more, in the plain form and in the other', () => {
    for (const form of [GOOD, GOOD.replace(/;created=\d+(.*)$/, '$1;created=1767225600')]) {
      const filled = form.replace('"@query"', `"@query" "${'x'.repeat(2048 - form.length - 3)}"`);
      assert.equal(filled.length, 2048);
      assert.equal(readSignatureInput(filled).components.length, 5);
      const { code, message } = malformed(SPELLING);
      assert.throws(() => readSignatureInput(filled.replace('"x', '"xx')), { code, message });
    }
  });
});

type Outcome = { read?: unknown; code?: string; message?: string };

function outcomeOf(read: () => unknown): Outcome {
  try {
    return { read: read() };
  } catch (error) {
    if (error instanceof ApiError) return { code: error.code, message: error.message };
    throw error;
  }
}

const NAME_CHARACTERS = 'abz09@-@-abz09_.!A "';
const JUNK = [
  ' ',
  '"',
  '\\',
  ';',
  '=',
  ',',
  '(',
  ')',
  ':',
  '\n',
  '\t',
  'A',
  'a',
  '0',
  '-',
  '.',
  '@',
  'é',
  '\0',
  '*',
  '?',
];

function randomInput(pick: Pick): string {
  const names = [
    '@method',
    '@authority',
    '@path',
    '@query',
    'content-type',
    randomText(pick, NAME_CHARACTERS, pick(6)),
  ];
  const count = oneOf(pick, [1, 2, 4, 5, 6, 0, 200]);
  const components = Array.from({ length: count }, () => `"${oneOf(pick, names)}"`).join(' ');
  // Every list holds what is just inside a limit of the plain form and what is just outside.
  const moments = ['0', '1767225600', '9'.repeat(12), '1'.repeat(13), '9'.repeat(15), '01', '-0', '1.0', '"1"'];
  const nonces = [...'AQgwBCx_-'].map((last) => `"${randomText(pick, 'AZaz09_-', 21)}${last}"`);
  const keyids = ['"k"', `"${'k'.repeat(64)}"`, `"${'k'.repeat(65)}"`, '"a.b_c-d"', '"-a"', '".a"', 'token', '""'];
  const words = [
    '"ed25519"',
    `"${'a'.repeat(32)}"`,
    `"${'a'.repeat(33)}"`,
    '"Upper"',
    '"a b"',
    '""',
    'token',
    '"a\\"b"',
  ];
  // Mostly good, so that good combinations come often enough to be compared.
  const usual = (good: string, all: readonly string[]) => (pick(8) === 0 ? oneOf(pick, all) : good);
  const parameters = [
    `created=${usual(oneOf(pick, moments.slice(0, 3)), moments)}`,
    `expires=${usual(oneOf(pick, moments.slice(0, 3)), moments)}`,
    `nonce=${usual(nonces[pick(4)]!, nonces)}`,
    `keyid=${usual('"spk_0123456789abcdefghjkmnpqrs"', keyids)}`,
    `alg=${usual('"hmac-sha256"', words)}`,
    `tag=${usual('"sallyport-v1"', words)}`,
  ];
  if (pick(6) === 0) parameters.push(parameters.splice(pick(parameters.length), 1)[0]!);
  if (pick(12) === 0) parameters.splice(pick(parameters.length), 1);
  if (pick(12) === 0) parameters.push(oneOf(pick, ['x', 'created=1', 'tag="b"', 'x=1']));
  const member = `${usual('sp', ['SP', 'sp1', 's', '*sp'])}=(${components});${parameters.join(';')}`;
  const all = usual(member, [`${member}, a=()`, `a=(), ${member}`, `${member}, ${member}`, `${member},a=()`]);
  if (pick(4) > 0) return all;
  const at = pick(all.length + 1);
  return all.slice(0, at) + oneOf(pick, JUNK) + all.slice(at + pick(2));
}

describe('the plain form of Signature-Input', () => {
  it('says what the general reader says, error for error', () => {
    const met = { read: 0, refused: 0 };
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const raw = randomInput(picksOf(seed));
        const quick = outcomeOf(() => readSignatureInput(raw));
        assert.deepEqual(
          quick,
          outcomeOf(() => readAny(raw)),
          raw,
        );
        if (quick.read === undefined) met.refused++;
        else met.read++;
      }),
      { numRuns: process.env.PROVE === 'full' ? 200_000 : 10_000 },
    );
    // Both must be common, or the comparison would compare little.
    assert.ok(met.read > 2000 && met.refused > 2000, JSON.stringify(met));
  });

  it('says what the general reader says about every change of one character', () => {
    for (let at = 0; at <= GOOD.length; at++) {
      for (let code = 0; code < 0x81; code++) {
        const raw = GOOD.slice(0, at) + String.fromCharCode(code) + GOOD.slice(at + 1);
        assert.deepEqual(
          outcomeOf(() => readSignatureInput(raw)),
          outcomeOf(() => readAny(raw)),
          raw,
        );
      }
      const shorter = GOOD.slice(0, at) + GOOD.slice(at + 1);
      assert.deepEqual(
        outcomeOf(() => readSignatureInput(shorter)),
        outcomeOf(() => readAny(shorter)),
        shorter,
      );
    }
  });
});

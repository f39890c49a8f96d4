import { serializeInnerList, type BareItem, type Dictionary, type InnerList } from 'structured-headers';
import { ApiError } from './errors.ts';
import { readOneSpelling } from './structured-field.ts';

/** What Signature-Input says: well-formed, of the right types, and not yet checked against the request. */
export type SignatureInput = {
  components: readonly string[];
  /** The inner list with its parameters exactly as they were signed. */
  text: string;
  created: number;
  expires: number;
  nonce: string;
  keyid: string;
  algorithm: string;
  tag: string;
};

/** The one label under which our signature travels; other labels are other people's and are left alone. */
export const LABEL = 'sp';

const PARAMETERS = ['created', 'expires', 'nonce', 'keyid', 'alg', 'tag'];

// 128 bits in base64url: the last character carries two of them, so only four can stand there.
const NONCE = /^[A-Za-z0-9_-]{21}[AQgw]$/;
const KEYID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

// The form every Sallyport signer writes. It is canonical by its own shape, so it needs neither parser nor comparison,
// which together cost more than the HMAC. Whatever does not fit goes through the general reader; a test holds them equal.
const PLAIN = new RegExp(
  `^${LABEL}=(\\("([a-z0-9@-]+(?:" "[a-z0-9@-]+)*)"\\)` +
    ';created=(0|[1-9]\\d{0,11});expires=(0|[1-9]\\d{0,11});nonce="([A-Za-z0-9_-]{21}[AQgw])"' +
    ';keyid="([A-Za-z0-9][A-Za-z0-9._-]{0,63})";alg="([a-z0-9-]{1,32})";tag="([a-z0-9-]{1,32})")$',
);
const LONGEST_PLAIN = 2048;

/** Reads the member `sp` of Signature-Input; throws where it is not in its one spelling or breaks a rule of form. */
export function readSignatureInput(raw: string): SignatureInput {
  return readPlain(raw) ?? readAny(raw);
}

function readPlain(raw: string): SignatureInput | undefined {
  const match = raw.length <= LONGEST_PLAIN ? PLAIN.exec(raw) : null;
  if (match === null) return undefined;
  const [, text, names, created, expires, nonce, keyid, algorithm, tag] = match as unknown as string[];
  return {
    components: names!.split('" "'),
    text: text!,
    created: Number(created),
    expires: Number(expires),
    nonce: nonce!,
    keyid: keyid!,
    algorithm: algorithm!,
    tag: tag!,
  };
}

/** The general reader, for every other order of parameters and for company under other labels. */
export function readAny(raw: string): SignatureInput {
  const members = readOneSpelling(raw);
  if (members === undefined) throw malformed('Signature-Input is not in its one canonical spelling');
  const [items, parameters] = ownMember(members);
  return {
    components: items.map(componentName),
    text: serializeInnerList([items, parameters]),
    ...readParameters(parameters),
  };
}

function ownMember(members: Dictionary): InnerList {
  const own = members.get(LABEL);
  if (own === undefined) throw malformed(`there is no member "${LABEL}" in Signature-Input`);
  if (!Array.isArray(own[0])) throw malformed(`"${LABEL}" is not a list of components`);
  for (const [label, [, parameters]] of members) {
    // Two signatures for one purpose: which of them a reader takes would be its own choice (RFC 9421 7.2.6).
    if (label !== LABEL && parameters.get('tag') === own[1].get('tag')) throw malformed('two signatures carry one tag');
  }
  return own as InnerList;
}

function componentName([name, parameters]: InnerList[0][number]): string {
  if (typeof name !== 'string') throw malformed('a component is not a string');
  if (parameters.size > 0) throw malformed('component parameters such as ;sf or ;req are not accepted');
  return name;
}

function readParameters(parameters: ReadonlyMap<string, BareItem>): Omit<SignatureInput, 'components' | 'text'> {
  for (const name of PARAMETERS) if (!parameters.has(name)) throw malformed(`the parameter ${name} is missing`);
  if (parameters.size > PARAMETERS.length) throw malformed('it has a parameter that is not known');
  const created = parameters.get('created');
  const expires = parameters.get('expires');
  const nonce = parameters.get('nonce');
  const keyid = parameters.get('keyid');
  const algorithm = parameters.get('alg');
  const tag = parameters.get('tag');
  if (!isMoment(created) || !isMoment(expires)) throw malformed('created and expires are whole seconds since 1970');
  if (typeof nonce !== 'string' || !NONCE.test(nonce)) throw malformed('nonce is not 128 bits in base64url');
  if (typeof keyid !== 'string' || !KEYID.test(keyid)) throw malformed('keyid is not a key id');
  if (typeof algorithm !== 'string' || typeof tag !== 'string') throw malformed('alg and tag are strings');
  return { created, expires, nonce, keyid, algorithm, tag };
}

function isMoment(value: BareItem | undefined): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0;
}

/** The error for a signature that cannot be read, with the reason; given before any key is looked up. */
export function malformed(why: string): ApiError {
  return new ApiError('signature_malformed', { facts: { why } });
}

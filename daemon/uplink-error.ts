import { TellableError } from './tellable-error.ts';

/** Why the broker could not be asked. */
export type UplinkCode = 'broker_unreachable' | 'broker_timeout' | 'broker_garbled' | 'broker_tls' | 'broker_url';

/** A failure on the way to the broker; its message is a sentence for people. */
export class UplinkError extends TellableError {
  readonly code: UplinkCode;
  /** Whether the broker may have heard any of it: then it may have been done. */
  readonly sent: boolean;

  constructor(code: UplinkCode, sentence: string, { sent, cause }: { sent: boolean; cause?: unknown }) {
    super(sentence, cause === undefined ? undefined : { cause });
    this.name = 'UplinkError';
    this.code = code;
    this.sent = sent;
  }
}

type Told = { code: UplinkCode; says: string };

// What each failure means to the person in front of the machine. `{host}` is filled in.
const BY_CODE: Readonly<Record<string, Told>> = {
  ENOTFOUND: {
    code: 'broker_unreachable',
    says: 'The name {host} cannot be found; check the address of the broker, and that this machine is online.',
  },
  EAI_AGAIN: {
    code: 'broker_unreachable',
    says: 'No name server answers, so {host} cannot be found; check that this machine is online.',
  },
  ECONNREFUSED: {
    code: 'broker_unreachable',
    says: 'Nothing listens at {host}; check the address, and that the broker runs.',
  },
  ETIMEDOUT: {
    code: 'broker_timeout',
    says: 'The broker at {host} does not answer in time; check the network, or a firewall between.',
  },
  CERT_HAS_EXPIRED: {
    code: 'broker_tls',
    says: 'The certificate of {host} has expired; check the clock of this machine, or tell the operator of the broker.',
  },
  CERT_NOT_YET_VALID: {
    code: 'broker_tls',
    says: 'The certificate of {host} is not valid yet; check the clock of this machine.',
  },
  ERR_TLS_CERT_ALTNAME_INVALID: {
    code: 'broker_tls',
    says: 'The certificate that {host} shows is for another name; check the address of the broker.',
  },
  EPROTO: {
    code: 'broker_tls',
    says: 'What answers at {host} does not speak TLS as it should; check the address and the port.',
  },
};

const UNTRUSTED: Told = {
  code: 'broker_tls',
  says: 'The certificate of {host} is not signed by anybody this machine trusts; if your company reads TLS traffic, add its certificate to the configuration.',
};
const TLS: Told = {
  code: 'broker_tls',
  says: 'No TLS connection to {host} could be made; check the address, and what stands between.',
};
const GARBLED: Told = {
  code: 'broker_garbled',
  says: 'What {host} answers is not HTTP that can be read; check the address, and what stands between.',
};
const UNREACHABLE: Told = {
  code: 'broker_unreachable',
  says: 'The connection to the broker at {host} broke off; check the network and try again.',
};

/** What went wrong on a socket, in words. */
export function uplinkErrorOf(error: unknown, { host, sent }: { host: string; sent: boolean }): UplinkError {
  const { code, says } = tell(codeOf(error));
  return new UplinkError(code, says.replace('{host}', host), { sent, cause: error });
}

// Where both families of addresses were tried, there is one error of many; the first speaks for all.
function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  if (error instanceof Error && error.name === 'TimeoutError') return 'ETIMEDOUT';
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

function tell(code: string): Told {
  const told = BY_CODE[code];
  if (told !== undefined) return told;
  if (/SELF_SIGNED|UNABLE_TO_|CERT_|_CERT\b/.test(code)) return UNTRUSTED;
  if (code.startsWith('ERR_SSL') || code.startsWith('ERR_TLS')) return TLS;
  if (code.startsWith('HPE_')) return GARBLED;
  return UNREACHABLE;
}

import { TellableError } from './tellable-error.ts';

type Row = { exitCode: number; says: string };

// Every way in which there may be nothing to sign with, and what to do about it. `{words}` are filled in.
const ERRORS = {
  not_enrolled: {
    exitCode: 3,
    says: 'This desktop is not enrolled; ask an administrator for a code: sallyport enroll.',
  },
  enrolment_pending: {
    exitCode: 3,
    says: 'The enrolment of this desktop was begun and is not finished; run it again: sallyport enroll.',
  },
  code_malformed: {
    exitCode: 2,
    says: 'That is not an enrolment code; it has twenty letters and digits, in five groups of four.',
  },
  locked: {
    exitCode: 1,
    says: 'The key of this desktop cannot be read from the keychain ({why}); unlock the keychain and try again.',
  },
  item_gone: {
    exitCode: 1,
    says: 'The keychain ({keychain}) no longer has the key of this desktop; unlock it or bring it back, or start anew: sallyport forget, then sallyport enroll.',
  },
  other_keychain: {
    exitCode: 1,
    says: 'The key of this desktop is in the keychain {kept}, and this run uses {keychain}; make {kept} available again.',
  },
  keychain_failed: {
    exitCode: 1,
    says: 'The keychain did not keep a key ({why}); nothing was sent and the code is not used up. Unlock it and try again.',
  },
  keychain_full: {
    exitCode: 1,
    says: 'The keychain did not keep the new key ({why}); unlock it and run this again, and it goes on from here.',
  },
  half_gone: {
    exitCode: 1,
    says: 'The keychain ({keychain}) no longer has the key that was to be agreed on; run this again, with a new code if you are asked for one.',
  },
  not_deleted: {
    exitCode: 1,
    says: 'The keychain ({keychain}) did not delete every key; unlock it and run this again. Nothing signs with them any more.',
  },
  state_damaged: {
    exitCode: 1,
    says: 'state.json cannot be read as what this program writes; bring it back from a backup, or remove it and enrol again: sallyport enroll.',
  },
  not_a_broker: {
    exitCode: 1,
    says: 'What answers at {host} is not a Sallyport broker ({why}); check the address, and whether something in front of it asks for a login.',
  },
  broker_unproven: {
    exitCode: 1,
    says: 'The answer of {host} is not from a broker that knew the code; nothing was kept. Check the address, and tell the operator.',
  },
  broker_refused: { exitCode: 1, says: '{message}' },
  broker_busy: { exitCode: 1, says: 'The broker at {host} cannot answer now ({status}); run this again in a minute.' },
} as const satisfies Record<string, Row>;

export type IdentityCode = keyof typeof ERRORS;

/** Why there is nothing to sign with, or why an exchange for a key came to nothing; its message says what to do. */
export class IdentityError extends TellableError {
  readonly code: IdentityCode;
  override readonly exitCode: number;
  /** The broker's own code, where it refused. */
  readonly brokerCode: string | undefined;

  constructor(code: IdentityCode, facts: Record<string, string> = {}, cause?: unknown) {
    const { says, exitCode }: Row = ERRORS[code];
    const sentence = says.replace(/\{(\w+)\}/g, (_, name: string) => cleaned(facts[name] ?? ''));
    super(sentence, cause === undefined ? undefined : { cause });
    this.name = 'IdentityError';
    this.code = code;
    this.exitCode = exitCode;
    this.brokerCode = facts['code'];
  }
}

const LONGEST_FACT = 400;

// Much of it comes over the wire, and is shown in a terminal.
function cleaned(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '').slice(0, LONGEST_FACT);
}

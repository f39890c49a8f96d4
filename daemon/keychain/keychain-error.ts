import { PrivateFileError } from '../files.ts';
import { TellableError } from '../tellable-error.ts';

/**
 * Why a keychain gave nothing. `locked`: what we want is probably there, and somebody has to unlock it. `emptied`: it is
 * not there any more. `absent`: there is no keychain. `failed`: anything else.
 */
export type KeychainTrouble = 'locked' | 'emptied' | 'absent' | 'failed';

/** Thrown with a sentence for the person at the desk: what is wrong, and what to do. It never holds a secret. */
export class KeychainError extends TellableError {
  override name = 'KeychainError';
  readonly code: KeychainTrouble;

  constructor(code: KeychainTrouble, sentence: string, options?: ErrorOptions) {
    super(sentence, options);
    this.code = code;
  }
}

/** Does the work; what is wrong with a file is wrong with the keychain that is made of files. */
export function sayingWhy<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (!(cause instanceof PrivateFileError)) throw cause;
    throw new KeychainError('failed', cause.message, { cause });
  }
}

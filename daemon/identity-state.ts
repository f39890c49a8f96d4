import type { Algorithm } from '@sallyport/protocol/keys.ts';
import { IdentityError } from './identity-error.ts';

// What is written down about who we are. It holds names and public keys only: whatever signs is in the keychain.

/** A key by its name; its secret is the keychain's item of that name. */
export type KeptKey = { keyid: string; algorithm: Algorithm };

/** A key that the broker knows us by. */
export type ActiveKey = KeptKey & { brokerUrl: string; deviceId: string; createdAt: string };

/** An exchange that has been begun: its private half is in the keychain, as the pending item. */
export type Pending = {
  purpose: 'enrolment' | 'rotation';
  brokerUrl: string;
  algorithm: Algorithm;
  /** base64url. */
  publicKey: string;
  /** Which invitation it is for; the part that proves it lies beside the private half. */
  codeId?: string;
  /** What came of it. The new key is in the keychain, and waits for its first signed request. */
  made?: { keyid: string; deviceId: string };
};

/** All of the state file. */
export type KeptState = {
  version: 1;
  installId: string;
  /** The keychain's kind: another one would not see the same items. */
  keychain: string;
  active?: ActiveKey;
  pending?: Pending;
  /** Items that may be in the keychain and that nobody needs any more. */
  leftovers: string[];
};

/** Where the state is kept; it is replaced whole or not at all. */
export type StateFile = { read(): string | undefined; write(text: string): void };

/** Reads what was written, or undefined where nothing was; what is damaged is told and never taken for a fresh start. */
export function readState(file: StateFile): KeptState | undefined {
  const text = file.read();
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new IdentityError('state_damaged', {}, cause);
  }
  if (!isState(value)) throw new IdentityError('state_damaged');
  return value;
}

/** Writes all of it. */
export function writeState(file: StateFile, state: KeptState): void {
  file.write(`${JSON.stringify(state, null, 2)}\n`);
}

function isState(value: unknown): value is KeptState {
  return (
    isRecord(value) &&
    value['version'] === 1 &&
    isText(value['installId']) &&
    isText(value['keychain']) &&
    Array.isArray(value['leftovers']) &&
    value['leftovers'].every(isText) &&
    (value['active'] === undefined || isActive(value['active'])) &&
    (value['pending'] === undefined || isPending(value['pending']))
  );
}

function isActive(value: unknown): boolean {
  return (
    isRecord(value) &&
    isKey(value) &&
    isText(value['brokerUrl']) &&
    isText(value['deviceId']) &&
    isText(value['createdAt'])
  );
}

function isPending(value: unknown): boolean {
  return (
    isRecord(value) &&
    (value['purpose'] === 'rotation' || (value['purpose'] === 'enrolment' && isText(value['codeId']))) &&
    isAlgorithmName(value['algorithm']) &&
    isText(value['brokerUrl']) &&
    isText(value['publicKey']) &&
    (value['made'] === undefined ||
      (isRecord(value['made']) && isText(value['made']['keyid']) && isText(value['made']['deviceId'])))
  );
}

function isKey(value: Record<string, unknown>): boolean {
  return isText(value['keyid']) && isAlgorithmName(value['algorithm']);
}

function isAlgorithmName(value: unknown): boolean {
  return value === 'hmac-sha256' || value === 'ed25519';
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

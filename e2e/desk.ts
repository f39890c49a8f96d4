import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openIdentity, type KeyItems, type OpenIdentity } from '../daemon/identity.ts';
import type { StateFile } from '../daemon/identity-state.ts';
import { openUplink, type OpenUplink, type UplinkSettings } from '../daemon/uplink.ts';

/** A desktop's folder: its state file, and a keychain that keeps each item in a file, in the clear. */
export type Desk = {
  folder: string;
  /** Called before and after each thing that a crash could fall between; what it throws is that crash. */
  atStep?: (step: string) => void;
  /** What the keychain does in place of answering. */
  keychainFails?: (what: 'get' | 'set' | 'delete', name: string) => void;
  network?: Partial<UplinkSettings>;
  exchangeMs?: number;
};

/** The identity of the desktop as a program finds it that has just been started. */
export function startDaemon(desk: Desk): OpenIdentity {
  const { folder, atStep = () => {} } = desk;
  mkdirSync(join(folder, 'keychain'), { recursive: true });
  return openIdentity({
    file: stateFile(folder, atStep),
    keychain: keychainOf(desk, atStep),
    dial: (dialled) => stepping(uplinkOf(desk, dialled), atStep),
    device: { name: 'Desk by the window', os: 'linux 6.18' },
    random: randomBytes,
    ...(desk.exchangeMs === undefined ? {} : { exchangeMs: desk.exchangeMs }),
  });
}

/** The way to the broker for what apps ask. */
export function uplinkOf(
  { network }: Pick<Desk, 'network'>,
  dialled: Pick<UplinkSettings, 'brokerUrl' | 'installId' | 'signingKey'>,
): OpenUplink {
  return openUplink({
    bootId: 'boot_0001',
    now: Date.now,
    elapsedMs: () => performance.now(),
    ...dialled,
    ...network,
  });
}

/** The names of the items that the keychain holds. */
export function itemsOf({ folder }: Desk): string[] {
  return readdirSync(join(folder, 'keychain')).map(decodeURIComponent);
}

/** Everything the keychain holds. */
export function secretsOf({ folder }: Desk): Buffer[] {
  return readdirSync(join(folder, 'keychain')).map((name) => readFileSync(join(folder, 'keychain', name)));
}

/** The text of the state file. */
export function stateTextOf({ folder }: Desk): string {
  const path = join(folder, 'state.json');
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

function stateFile(folder: string, atStep: (step: string) => void): StateFile {
  const path = join(folder, 'state.json');
  return {
    read: () => (existsSync(path) ? readFileSync(path, 'utf8') : undefined),
    write(text) {
      atStep('before state');
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
      atStep('after state');
    },
  };
}

function keychainOf({ folder, keychainFails }: Desk, atStep: (step: string) => void): KeyItems {
  const pathOf = (name: string) => join(folder, 'keychain', encodeURIComponent(name));
  async function around<Value>(what: 'get' | 'set' | 'delete', name: string, act: () => Value): Promise<Value> {
    atStep(`before ${what}`);
    keychainFails?.(what, name);
    const value = act();
    atStep(`after ${what}`);
    return value;
  }
  return {
    backend: 'file',
    get: (name) => around('get', name, () => (existsSync(pathOf(name)) ? readFileSync(pathOf(name)) : undefined)),
    set: (name, value) => around('set', name, () => writeFileSync(pathOf(name), value)),
    delete: (name) => around('delete', name, () => rmSync(pathOf(name), { force: true })),
  };
}

function stepping(uplink: OpenUplink, atStep: (step: string) => void): OpenUplink {
  return {
    get offsetMs() {
      return uplink.offsetMs;
    },
    async send(outgoing) {
      atStep(`before ${outgoing.path}`);
      const incoming = await uplink.send(outgoing);
      atStep(`after ${outgoing.path}`);
      return incoming;
    },
    async sendUnsigned(outgoing) {
      atStep(`before ${outgoing.path}`);
      const incoming = await uplink.sendUnsigned(outgoing);
      atStep(`after ${outgoing.path}`);
      return incoming;
    },
    close: () => uplink.close(),
  };
}

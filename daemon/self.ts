import { join } from 'node:path';
import type { Secret } from '@sallyport/protocol/secret.ts';
import { bootIdOf } from './boot-id.ts';
import type { DaemonConfig, Environment } from './config.ts';
import { makePrivateFolder, readPrivateFile, writePrivateFile } from './files.ts';
import { IdentityError } from './identity-error.ts';
import { readState, type StateFile } from './identity-state.ts';
import { openIdentity, type OpenIdentity } from './identity.ts';
import { BACKENDS, chooseKeychain, openKeychain, type Keychain, type KeychainSettings } from './keychain/keychain.ts';
import { openUplink, type OpenUplink, type UplinkSettings } from './uplink.ts';

/** What the machine and the person around this program are; main tells it, and a test another. */
export type World = {
  platform: NodeJS.Platform;
  env: Environment;
  /** What this desktop calls itself, and its system. */
  hostname: string;
  system: string;
  now: () => number;
  elapsedMs: () => number;
  uptimeSeconds: () => number;
  random: (bytes: number) => Buffer;
  readFile: (path: string) => string;
  /** Loads a package that may not be there. */
  load: (name: string) => Promise<unknown>;
  /** Asks the person for the passphrase of an encrypted file, where there is a person. */
  passphrase?: ((isNew: boolean) => Promise<Secret>) | undefined;
};

/** This installation: who it is, where its key is kept, and the way to its broker. */
export type Self = {
  identity: OpenIdentity;
  keychain: Keychain;
  /** Why better keychains were passed over when this one was chosen. */
  passedOver: readonly { backend: string; why: string }[];
  dial: (dialled: Pick<UplinkSettings, 'brokerUrl' | 'signingKey' | 'installId'>) => OpenUplink;
};

/** Opens what was enrolled here, with the keychain that was chosen then; undefined where nothing ever was. */
export async function openSelf(config: DaemonConfig, world: World): Promise<Self | undefined> {
  const kept = readState(stateFile(config));
  if (kept === undefined) return undefined;
  const backend = BACKENDS.find((name) => name === kept.keychain);
  if (backend === undefined) throw new IdentityError('state_damaged');
  const keychain = await openKeychain(backend, keychainSettings(config, world, kept.installId));
  return build(config, world, { installId: kept.installId, keychain, passedOver: [] });
}

/** The same for whoever is about to enrol: where nothing was enrolled yet, a keychain is tried and chosen. */
export async function beginSelf(config: DaemonConfig, world: World): Promise<Self> {
  const before = await openSelf(config, world);
  if (before !== undefined) return before;
  const installId = `inst_${world.random(16).toString('hex')}`;
  const settings = keychainSettings(config, world, installId);
  const { keychain, passedOver } = await chooseKeychain({ ...settings, wanted: config.keychain });
  return build(config, world, { installId, keychain, passedOver });
}

type Chosen = { installId: string; keychain: Keychain; passedOver: Self['passedOver'] };

function build(config: DaemonConfig, world: World, { installId, keychain, passedOver }: Chosen): Self {
  const { platform, now, elapsedMs, uptimeSeconds, readFile, random } = world;
  const bootId = bootIdOf({ installId, platform, readFile, now, uptimeSeconds });
  const dial: Self['dial'] = (dialled) =>
    openUplink({
      ...dialled,
      bootId,
      now,
      elapsedMs,
      extraCas: config.extraCaFiles.map(readFile),
      systemCas: config.systemCas,
      ...(config.proxy && { proxyEnv: proxiesIn(world.env) }),
    });
  const device = { name: oneLine(world.hostname), os: oneLine(world.system) };
  const identity = openIdentity({ file: stateFile(config), installId, keychain, dial, device, random });
  return { identity, keychain, passedOver, dial };
}

function stateFile({ home }: DaemonConfig): StateFile {
  const path = join(home, 'state.json');
  return {
    read: () => readPrivateFile(path),
    write(text) {
      makePrivateFolder(home);
      writePrivateFile(path, text);
    },
  };
}

function keychainSettings(config: DaemonConfig, world: World, installId: string): KeychainSettings {
  const { platform, env, load, passphrase } = world;
  return {
    platform,
    environment: env,
    installId,
    load,
    file: {
      folder: join(config.home, 'keychain'),
      credentialsDirectory: env['CREDENTIALS_DIRECTORY'],
      passphrase,
      insecureKeyFile: config.insecureKeyFile,
    },
  };
}

function proxiesIn(env: Environment): Record<string, string> {
  const names = ['HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY', 'https_proxy', 'http_proxy', 'no_proxy'];
  return Object.fromEntries(names.flatMap((name) => (env[name] ? [[name, env[name]]] : [])));
}

// The broker takes one line of at most a hundred visible characters.
function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '').slice(0, 100) || 'unnamed';
}

import { join } from 'node:path';
import { openApps } from './apps.ts';
import type { DaemonConfig } from './config.ts';
import { controlPathOf, openControlSocket, type Verbs } from './control-socket.ts';
import { openDoor } from './door.ts';
import { makePrivateFolder, removePrivateFile, writePrivateFile } from './files.ts';
import { IdentityError } from './identity-error.ts';
import type { Enrolled, Identity } from './identity.ts';
import { startJobs } from './jobs.ts';
import { beginSelf, openSelf, type Self, type World } from './self.ts';
import type { OpenUplink } from './uplink.ts';

export type Log = {
  info(facts: object, says: string): void;
  warn(facts: object, says: string): void;
  error(facts: object, says: string): void;
};

type Settings = { config: DaemonConfig; world: World; log: Log; pid: number };

/** A daemon that listens. */
export type Daemon = { port: number; addresses: readonly string[]; stop: () => Promise<void> };

/** What `status` tells, of the running daemon or without one. */
export type Status = {
  state: Identity['state'];
  broker: string | null;
  device: string | null;
  keyid: string | null;
  keychain: string | null;
  warnings: string[];
};

/** Says how it stands with this installation. */
export function statusOf(self: Self | undefined): Status {
  const { identity, keychain } = self ?? {};
  return {
    state: identity?.state ?? 'none',
    broker: identity?.brokerUrl ?? null,
    device: identity?.deviceId ?? null,
    keyid: identity?.keyid ?? null,
    keychain: keychain?.backend ?? null,
    warnings: keychain?.warning === undefined ? [] : [keychain.warning],
  };
}

/** What a person or a program is told of an enrolment. */
export function enrolledWords({ brokerUrl, deviceId, name, products, keyid }: Enrolled, self: Self): object {
  const { passedOver } = self;
  return { broker: brokerUrl, device: deviceId, name, products, keyid, keychain: self.keychain.backend, passedOver };
}

/** Opens everything of the daemon and begins to listen; throws with a sentence where it cannot. */
export async function openDaemon({ config, world, log, pid }: Settings): Promise<Daemon> {
  const { home } = config;
  makePrivateFolder(home);
  const spoolFolder = join(home, 'spool');
  const apps = openApps({ file: join(home, 'apps.json'), now: world.now, random: world.random });
  let self = await openSelf(config, world);
  let line: { brokerUrl: string; uplink: OpenUplink } | undefined;
  let isAskedToRotate = false;

  // One line for as long as there is one broker; a device that enrols elsewhere is given another.
  const uplink = (): OpenUplink | undefined => {
    const { brokerUrl, state, installId, signingKey } = self?.identity ?? {};
    if (self === undefined || brokerUrl === undefined || state === 'none' || state === 'pending') return undefined;
    if (line?.brokerUrl !== brokerUrl) {
      line?.uplink.close();
      line = { brokerUrl, uplink: self.dial({ brokerUrl, installId: installId!, signingKey: signingKey! }) };
    }
    return line.uplink;
  };
  const listening = {
    send: async (...sent: Parameters<OpenUplink['send']>) => {
      const incoming = await uplink()!.send(...sent);
      // The broker asks for a new key with whatever it answers.
      isAskedToRotate ||= incoming.headers.some(
        (name, i) => i % 2 === 0 && name.toLowerCase() === 'x-sallyport-rotate',
      );
      return incoming;
    },
  };

  const rotate = async () => {
    isAskedToRotate = false;
    if (self === undefined) throw new IdentityError('not_enrolled');
    return enrolledWords(await self.identity.rotate(), self);
  };
  const verbs: Verbs = {
    status: async () => ({
      ...statusOf(self),
      running: true,
      port: door.port,
      addresses: door.addresses,
      apps: apps.list().length,
    }),
    enrol: async ({ url, code, algorithm }) => {
      self ??= await beginSelf(config, world);
      const wanted = algorithm === 'ed25519' ? 'ed25519' : 'hmac-sha256';
      return enrolledWords(
        await self.identity.enrol({ url: String(url), code: String(code), algorithm: wanted }),
        self,
      );
    },
    rotate,
    forget: async () => {
      await self?.identity.forget();
      line?.uplink.close();
      line = undefined;
      return statusOf(self);
    },
    'apps-add': async ({ name, lifetimeSeconds }) => ({
      token: apps.add(String(name), typeof lifetimeSeconds === 'number' ? { lifetimeSeconds } : {}),
    }),
    'apps-list': async () => apps.list(),
    'apps-remove': async ({ name }) => ({ removed: apps.remove(String(name)) }),
  };

  const control = await openControlSocket(controlPathOf(home, world.platform), verbs);
  const origins: ReadonlySet<string> = new Set(config.origins);
  const door = await openDoor({
    port: config.port,
    apps,
    origins: () => origins,
    log,
    identity: () => self?.identity ?? { state: 'none' },
    uplink: () => (uplink() === undefined ? undefined : listening),
    spoolFolder,
    random: world.random,
  }).catch(async (error: unknown) => {
    await control.close();
    throw error;
  });
  // Where we are, for programs that are started by another hand than the person's.
  const discovery = join(home, 'daemon.json');
  writePrivateFile(discovery, `${JSON.stringify({ pid, port: door.port, addresses: door.addresses })}\n`);
  // What was begun before the last end: a half-done enrolment or rotation, and a keychain that is locked is found out now.
  void self?.identity.resume().catch((cause: unknown) => log.warn({ cause }, (cause as Error).message));
  const jobs = startJobs({
    now: world.now,
    keyCreatedAt: () => self?.identity.keyCreatedAt,
    installId: () => self?.identity.installId ?? '',
    isAsked: () => isAskedToRotate,
    rotate,
    log,
  });
  return {
    port: door.port,
    addresses: door.addresses,
    async stop() {
      await jobs.stop();
      await door.close();
      await control.close();
      line?.uplink.close();
      removePrivateFile(discovery);
    },
  };
}

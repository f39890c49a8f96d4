import { createHash, timingSafeEqual } from 'node:crypto';
import { DoorError } from './door-errors.ts';
import { readPrivateFile, writePrivateFile } from './files.ts';
import { valuesOf } from './guard.ts';
import { TellableError } from './tellable-error.ts';

/** A local program that may use the door. */
export type App = { name: string; createdAt: string; expiresAt?: string };

type StoredApp = App & { sha256: string };

type Settings = {
  /** The private file in which the apps are kept. */
  file: string;
  now: () => number;
  /** So many random bytes. */
  random: (bytes: number) => Buffer;
};

/** What is wrong with a wish about apps, in a sentence for the person who had it. */
export class AppsError extends TellableError {
  override name = 'AppsError';
}

/** What every app token begins with, so that a leaked one is known for what it is. */
export const TOKEN_PREFIX = 'spl_';

// Where client libraries put an API key: OpenAI's, Anthropic's, Azure's, Google's.
const CREDENTIAL_HEADERS = ['authorization', 'x-api-key', 'api-key', 'x-goog-api-key'] as const;

const NAME = /^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$/;
// A shell that asks for a token whenever it starts would fill the file; expired ones make room by themselves.
const MOST_APPS = 500;

export type Apps = ReturnType<typeof openApps>;

/**
 * The apps of this machine. A token is shown once and kept as its SHA-256: it has 256 random bits, so there is nothing to
 * guess that a slow hash would protect. The file is read once; every change goes through the running daemon.
 */
export function openApps({ file, now, random }: Settings) {
  let apps = readApps(file);

  function keep(next: StoredApp[]): void {
    writePrivateFile(file, `${JSON.stringify({ version: 1, apps: next }, null, 2)}\n`);
    apps = next;
  }

  const isLive = ({ expiresAt }: App) => expiresAt === undefined || now() < Date.parse(expiresAt);

  return {
    /** Makes a token for a new app; nobody can show it a second time. */
    add(name: string, { lifetimeSeconds }: { lifetimeSeconds?: number } = {}): string {
      if (!NAME.test(name)) {
        throw new AppsError('A name is 1 to 64 letters, digits, spaces and . _ @ -, beginning with a letter or digit.');
      }
      const others = apps.filter(isLive);
      if (others.some((app) => app.name === name)) {
        throw new AppsError(
          `There is an app ${name} already; choose another name, or remove it: sallyport apps remove "${name}".`,
        );
      }
      if (others.length >= MOST_APPS) {
        throw new AppsError(`There are ${MOST_APPS} apps already; remove one that is not used: sallyport apps list.`);
      }
      const token = TOKEN_PREFIX + random(32).toString('base64url');
      const createdAt = new Date(now()).toISOString();
      const expires =
        lifetimeSeconds === undefined ? {} : { expiresAt: new Date(now() + lifetimeSeconds * 1000).toISOString() };
      keep([...others, { name, createdAt, ...expires, sha256: hashOf(token).toString('hex') }]);
      return token;
    },

    /** Every app there is, expired ones too, without anything of its token. */
    list(): App[] {
      return apps.map(withoutHash);
    },

    /** Whether there was such an app; its token is refused from now on. */
    remove(name: string): boolean {
      const others = apps.filter((app) => app.name !== name);
      if (others.length === apps.length) return false;
      keep(others);
      return true;
    },

    /** The app whose token this request carries; throws where there is none. */
    whoseToken(rawHeaders: readonly string[]): App {
      const token = readToken(rawHeaders);
      if (token === undefined) throw new DoorError('token_missing');
      const hash = hashOf(token);
      // Hashes are compared, all of them and each whole: how long it takes tells nothing about any token.
      const [found] = apps.filter(({ sha256 }) => timingSafeEqual(Buffer.from(sha256, 'hex'), hash));
      if (found === undefined || !isLive(found)) throw new DoorError('token_unknown');
      return withoutHash(found);
    },
  };
}

// Two tokens in one request are two answers to the question who asks; a library that sends one in two headers is fine.
function readToken(rawHeaders: readonly string[]): string | undefined {
  const sent = CREDENTIAL_HEADERS.flatMap((name) =>
    valuesOf(rawHeaders, name).map((value) => value.replace(/^Bearer +/i, '')),
  );
  const tokens = new Set(sent.filter((value) => value.startsWith(TOKEN_PREFIX)));
  if (tokens.size > 1) throw new DoorError('token_unknown');
  return [...tokens][0];
}

function withoutHash({ name, createdAt, expiresAt }: StoredApp): App {
  return { name, createdAt, ...(expiresAt !== undefined && { expiresAt }) };
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

function readApps(file: string): StoredApp[] {
  const text = readPrivateFile(file);
  if (text === undefined) return [];
  let apps: unknown;
  try {
    ({ apps } = JSON.parse(text) as { apps?: unknown });
  } catch (cause) {
    throw unreadable(file, cause);
  }
  // With a file that says something else, nobody could tell any more who is let in.
  if (!Array.isArray(apps) || !apps.every(isStoredApp)) throw unreadable(file);
  return apps;
}

function isStoredApp(value: unknown): value is StoredApp {
  const { name, createdAt, expiresAt, sha256 } = (value ?? {}) as Record<string, unknown>;
  return (
    typeof name === 'string' &&
    typeof createdAt === 'string' &&
    typeof sha256 === 'string' &&
    /^[0-9a-f]{64}$/.test(sha256) &&
    (expiresAt === undefined || (typeof expiresAt === 'string' && Number.isFinite(Date.parse(expiresAt))))
  );
}

function unreadable(file: string, cause?: unknown): AppsError {
  const sentence = `The list of apps cannot be read; remove ${file} and add the apps again.`;
  return new AppsError(sentence, { cause });
}

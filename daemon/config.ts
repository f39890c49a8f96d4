import { isIP } from 'node:net';
import { posix, win32 } from 'node:path';
import { BACKENDS, type Backend } from './keychain/keychain.ts';
import { TellableError } from './tellable-error.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Everything that can be set, read once. */
export type DaemonConfig = Readonly<{
  /** The folder of this installation: who it is, its apps, its log. */
  home: string;
  port: number;
  /** The keychain that is to be taken at enrolment; without it, the best that works. */
  keychain: Backend | undefined;
  /** Whether the key of an encrypted file may lie beside it. */
  insecureKeyFile: boolean;
  /** The origins of web pages that may ask. */
  origins: readonly string[];
  /** HTTPS_PROXY and NO_PROXY count. */
  proxy: boolean;
  /** Files with certificates that are believed beside Node's own, and whether the system's are. */
  extraCaFiles: readonly string[];
  systemCas: boolean;
}>;

/** What is wrong with the settings, each in a sentence. */
export class ConfigError extends TellableError {
  override name = 'ConfigError';
}

type Sources = {
  env: Environment;
  platform: NodeJS.Platform;
  homeFolder: string;
  /** The text of a file; undefined where there is none. */
  readFile: (path: string) => string | undefined;
};

const USUAL_PORT = 8787;

/** The folder of this installation, where the platform keeps such things; SALLYPORT_HOME names another. */
export function homeOf({ env, platform, homeFolder }: Omit<Sources, 'readFile'>): string {
  if (env['SALLYPORT_HOME']) return env['SALLYPORT_HOME'];
  if (platform === 'win32') {
    return win32.join(env['LOCALAPPDATA'] || win32.join(homeFolder, 'AppData', 'Local'), 'Sallyport');
  }
  if (platform === 'darwin') return posix.join(homeFolder, 'Library', 'Application Support', 'Sallyport');
  return posix.join(env['XDG_DATA_HOME'] || posix.join(homeFolder, '.local', 'share'), 'sallyport');
}

/** Reads the settings file, `config.json` in that folder, and the variables that beat it; every mistake is told at once. */
export function readConfig(sources: Sources): DaemonConfig {
  const { env, readFile } = sources;
  const home = homeOf(sources);
  const file = posix.join(home, 'config.json');
  const mistakes: string[] = [];
  const written = parse(readFile(file), file, mistakes);
  const take = <Value>(name: string, isRight: (value: unknown) => value is Value, wants: string, otherwise: Value) => {
    const value = written.get(name);
    written.delete(name);
    if (value === undefined) return otherwise;
    if (isRight(value)) return value;
    mistakes.push(`${file}: ${name} must be ${wants}.`);
    return otherwise;
  };
  const filePort = take('port', isPort, 'a whole number from 1 to 65535', USUAL_PORT);
  const config: DaemonConfig = {
    home,
    port: readPort(env['SALLYPORT_PORT'], mistakes) ?? filePort,
    keychain: readBackend(env['SALLYPORT_KEYCHAIN'], mistakes),
    insecureKeyFile: env['CI'] === 'true' || env['SALLYPORT_INSECURE_KEY_FILE'] === 'true',
    origins: take('origins', areOrigins, 'a list of origins such as https://app.example.com', []),
    proxy: take('proxy', isBoolean, 'true or false', false),
    extraCaFiles: take('extra_ca_files', areTexts, 'a list of paths', []),
    systemCas: take('system_cas', isBoolean, 'true or false', false),
  };
  for (const name of written.keys())
    mistakes.push(`${file}: there is no setting ${JSON.stringify(name)}; take it away.`);
  mistakes.push(...dangers(env));
  if (mistakes.length > 0) throw new ConfigError(mistakes.join('\n'));
  return Object.freeze(config);
}

function parse(text: string | undefined, file: string, mistakes: string[]): Map<string, unknown> {
  if (text === undefined || text.trim() === '') return new Map();
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return new Map(Object.entries(value));
    mistakes.push(`${file}: write one JSON object with the settings.`);
  } catch (error) {
    mistakes.push(`${file}: this is not JSON: ${(error as Error).message}.`);
  }
  return new Map();
}

// With these the environment could have another program's certificate believed, or its code run where the key is.
function dangers(env: Environment): string[] {
  const found: string[] = [];
  if (env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0') {
    found.push(
      'NODE_TLS_REJECT_UNAUTHORIZED=0 is set: any program could pass for the broker. Unset it, and name a certificate under extra_ca_files.',
    );
  }
  if (/--(?:require|import|inspect|loader|experimental-loader)|(?:^|\s)-r\b/.test(env['NODE_OPTIONS'] ?? '')) {
    found.push('NODE_OPTIONS loads code into this program, which signs for you; unset it.');
  }
  return found;
}

function readPort(text: string | undefined, mistakes: string[]): number | undefined {
  if (text === undefined || text === '') return undefined;
  const port = Number(text);
  if (isPort(port)) return port;
  mistakes.push('SALLYPORT_PORT must be a whole number from 1 to 65535.');
  return undefined;
}

function readBackend(text: string | undefined, mistakes: string[]): Backend | undefined {
  if (text === undefined || text === '') return undefined;
  const backend = BACKENDS.find((name) => name === text);
  if (backend === undefined) mistakes.push(`SALLYPORT_KEYCHAIN must be one of ${BACKENDS.join(', ')}.`);
  return backend;
}

const isPort = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65_535;
const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean';
const areTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === 'string' && one !== '');

/** An origin as browsers write it: scheme, host, a port that is not the usual one, and nothing else. */
export function isOrigin(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || url.origin !== text) return false;
  return (
    url.protocol === 'https:' ||
    (url.protocol === 'http:' && (url.hostname === 'localhost' || isIP(url.hostname) !== 0))
  );
}

const areOrigins = (value: unknown): value is string[] => areTexts(value) && value.every(isOrigin);

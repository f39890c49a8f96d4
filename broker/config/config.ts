import type { KeyObject } from 'node:crypto';
import { resolve } from 'node:path';
import type { Secret } from '@sallyport/protocol/secret.ts';
import { build } from './build.ts';
import { check } from './check.ts';
import { checkVariables, FILE_VARIABLE, overlay } from './environment.ts';
import { variablesIn } from './expand.ts';
import type { Environment } from './expand.ts';
import { parse } from './parse.ts';
import { inFileOrder, locate } from './place.ts';
import type { Mistake } from './place.ts';
import { emptySource, readSource } from './source.ts';
import type { Source } from './source.ts';

export type { Environment, Mistake };

/** Everything that can be set, read once and frozen. What each setting means stands in schema.ts. */
export type Config = Readonly<{
  /** The origin that daemons dial, as in `https://broker.example.com`. */
  publicUrl?: string;
  /** Every `host` or `host:port` that is ours, in normal form; the one of `publicUrl` is the first. */
  authorities: readonly string[];
  listen: Readonly<{ host: string; port: number }>;
  /** An absolute path. */
  data: string;
  database: Readonly<{
    /** Undefined for SQLite. */
    url?: Secret;
    migratesAtStart: boolean;
  }>;
  /** Undefined when one is to be made and kept in the data folder. The first encrypts. */
  encryptionKeys?: readonly Secret<Buffer>[];
  /** A code in its written form, for a broker that has no device yet. */
  firstInvite?: Readonly<{ product: string; code: Secret }>;
  trustedProxyHops: number;
  log: Readonly<{ level: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent' }>;
  limits: Readonly<{
    bodyBytes: number;
    bodyMs: number;
    connections: number;
    address: Readonly<{ burst: number; perSecond: number }>;
    enrolment: Readonly<{ burst: number; perSecond: number }>;
  }>;
  streams: Readonly<{ pingMs: number; slowReaderMs: number }>;
  shutdown: Readonly<{ acceptMs: number; finishMs: number; endMs: number }>;
  hideUpstreamErrors: boolean;
  /** In the order of the file: where two serve a model, the first is asked. */
  providers: readonly (VendorProvider | EchoProvider)[];
  products: readonly Product[];
  clients: readonly Client[];
}>;

type AnyProvider = Readonly<{
  name: string;
  /** Undefined when it takes any name. */
  models?: readonly string[];
  allowPrivate: boolean;
  timeouts: Readonly<{
    connectMs: number;
    headersMs: number;
    firstByteMs: number;
    idleMs: number;
    totalMs: number;
  }>;
}>;
/** `baseUrl` is the root of the API and has no slash at its end. */
type VendorProvider = AnyProvider &
  Readonly<{ kind: 'openai' | 'openai-compatible'; baseUrl: string; apiKey?: Secret }>;
type EchoProvider = AnyProvider & Readonly<{ kind: 'echo' }>;

type Product = Readonly<{
  name: string;
  models: readonly string[];
  maxTokens?: number;
  temperature?: readonly [from: number, to: number];
  rate: Readonly<{ burst: number; perSecond: number; perDay: number }>;
}>;

type Client = Readonly<{
  /** Also the key id. */
  name: string;
  products: readonly string[];
  key:
    | Readonly<{ algorithm: 'hmac-sha256'; secret: Secret<Buffer> }>
    | Readonly<{ algorithm: 'ed25519'; publicKey: KeyObject }>;
}>;

/** What a configuration is read from. Nothing else is asked: the same sources give the same configuration. */
export type Sources = {
  env: Environment;
  cwd: string;
  /** What `--config` named; it beats SALLYPORT_CONFIG. */
  file?: string | undefined;
  /** Reads a text file, and throws as `readFileSync` does when it cannot. */
  readFile: (path: string) => string;
};

/** A configuration, or everything that keeps it from being one. */
export type Reading = { config: Config; mistakes?: never } | { mistakes: readonly Mistake[]; config?: never };

/** Reads sallyport.yaml and the environment. Every mistake is reported at once, with its place and what to do about it. */
export function readConfig(sources: Sources): Reading {
  const { env, cwd } = sources;
  const { source, folder, mentioned } = findFile(sources);
  overlay(source, env);
  const { settings, findings } = parse(source.values, source.place);
  const all = [...source.findings, ...findings, ...check(settings, source.place, env)];
  const mistakes = [
    ...source.mistakes,
    ...all.map((finding) => locate(source.place, finding)),
    ...checkVariables(env, mentioned),
  ];
  if (mistakes.length > 0) return { mistakes: mistakes.toSorted(inFileOrder) };
  const isDataFromEnvironment = source.place.inside.get('data')?.from === 'environment';
  return { config: build(settings, { dataFolder: isDataFromEnvironment ? cwd : folder, env }) };
}

const USUAL_FILE = 'sallyport.yaml';

type Found = {
  source: Source;
  /** The folder that paths in the file begin at. */
  folder: string;
  /** The variables that the file mentions; undefined when it could not be read. */
  mentioned: ReadonlySet<string> | undefined;
};

function findFile({ env, cwd, file, readFile }: Sources): Found {
  const name = file ?? (env[FILE_VARIABLE] || USUAL_FILE);
  const path = resolve(cwd, name);
  const folder = resolve(path, '..');
  try {
    const text = readFile(path);
    return { source: readSource(text, name, env), folder, mentioned: variablesIn(text) };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === undefined) throw error;
    const isAsked = file !== undefined || Boolean(env[FILE_VARIABLE]);
    if (code === 'ENOENT' && !isAsked) return { source: emptySource(), folder: cwd, mentioned: new Set() };
    const origin = file !== undefined ? 'option --config' : isAsked ? `environment ${FILE_VARIABLE}` : USUAL_FILE;
    const says = `${UNREADABLE[String(code)] ?? 'The file cannot be read'}: ${path}`;
    return { source: emptySource({ place: origin, says }), folder, mentioned: undefined };
  }
}

const UNREADABLE: Record<string, string> = {
  ENOENT: 'There is no such file; give the path of one',
  EACCES: 'This user may not read the file; change its owner or its mode',
  EISDIR: 'This is a folder; give the path of the file in it',
};

import { z } from 'zod';
import { readAuthority, readBaseUrl, readDatabaseUrl, readPublicUrl } from './addresses.ts';
import { readApiKey, readEncryptionKey, readFirstInvite, readPublicKey, readSecret } from './keys.ts';
import { readModelName, readModelPattern } from './names.ts';
import { Refusal } from './refusal.ts';
import { setting } from './setting.ts';

// Every setting has its sentence, its default and its environment variable beside it; docs/configuration.md is printed
// from here. What two settings say together is judged in check.ts.

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
const KIND_NAMES = ['openai', 'openai-compatible', 'echo'] as const;
const HostName = z.string().regex(/^[\w.:-]+$/);
const BodyBytes = z
  .int()
  .min(1024)
  .max(1024 ** 3);

const Listen = z.strictObject({
  host: setting(HostName.optional(), {
    says: 'The address to listen on; `::` is every interface, in both families.',
    wants: 'an IP address without brackets, or a host name',
    env: 'SALLYPORT_HOST',
    otherwise: '`127.0.0.1` when public_url is a loopback address, else `::`',
  }),
  port: setting(z.int().min(0).max(65_535).default(8080), {
    says: 'The port to listen on; 0 takes any free one.',
    wants: 'a whole number from 0 to 65535',
    env: 'PORT',
  }),
});

const Log = z.strictObject({
  level: setting(z.enum(LOG_LEVELS).default('info'), {
    says: 'The least important thing that is still logged.',
    wants: 'one of fatal, error, warn, info, debug, trace and silent',
    env: 'SALLYPORT_LOG_LEVEL',
  }),
});

const AddressLimit = z.strictObject({
  burst: setting(z.int().min(1).max(1_000_000).default(500), {
    says: 'How many requests one network address may send at once.',
    wants: 'a whole number from 1 to 1000000',
  }),
  per_second: setting(z.number().gt(0).max(1_000_000).default(250), {
    says: 'How many requests a second one network address may keep sending.',
    wants: 'a number above 0 and up to 1000000',
  }),
});

const EnrolmentLimit = z.strictObject({
  burst: setting(z.int().min(1).max(1_000_000).default(300), {
    says: 'How many requests to enrol one network address may send at once; a whole office may stand behind one.',
    wants: 'a whole number from 1 to 1000000',
  }),
  per_second: setting(z.number().gt(0).max(1_000_000).default(2), {
    says: 'How many requests to enrol a second one network address may keep sending.',
    wants: 'a number above 0 and up to 1000000',
  }),
});

const Limits = z.strictObject({
  body_bytes: setting(BodyBytes.default(25 * 1024 ** 2), {
    says: 'The largest request body that is taken.',
    wants: 'a whole number from 1024 (1 KiB) to 1073741824 (1 GiB)',
    env: 'SALLYPORT_BODY_BYTES',
  }),
  body_seconds: seconds(60, 'How long a JSON body may take to arrive, once its sender is known.'),
  connections: setting(z.int().min(1).max(1_000_000).default(10_000), {
    says: 'How many connections may be open at once; those above it are closed at once. Every one needs a file descriptor (`ulimit -n`).',
    wants: 'a whole number from 1 to 1000000',
  }),
  address: AddressLimit.prefault({}),
  enrolment: EnrolmentLimit.prefault({}),
});

const Streams = z.strictObject({
  ping_seconds: seconds(
    15,
    'After how long a silence a stream is sent a comment, so that no proxy on the way takes it for dead. A provider that has not answered by then gets no say in the status any more.',
  ),
  slow_reader_seconds: seconds(
    60,
    'How long a caller may take nothing of what is ready for it, before it is given up.',
  ),
});

const Shutdown = z.strictObject({
  accept_seconds: setting(z.number().min(0).max(3600).default(0), {
    says: 'How long requests are still taken, while `/ready` already says no: for load balancers that are slow to notice.',
    wants: 'a number of seconds from 0 to 3600',
  }),
  finish_seconds: setting(z.number().min(0).max(3600).default(7), {
    says: 'How long what is under way may take to finish, once nothing new is taken. Cloud Run kills 10 s after it asks.',
    wants: 'a number of seconds from 0 to 3600',
  }),
  end_seconds: setting(z.number().min(0).max(60).default(1), {
    says: 'How long callers may take to read that their answer ends here, before their connections are closed.',
    wants: 'a number of seconds from 0 to 60',
  }),
});

const Database = z.strictObject({
  url: setting(text(readDatabaseUrl).optional(), {
    says: 'The Postgres that keeps devices, invitations and the audit log; the form that SQLAlchemy takes, `postgresql+asyncpg://`, is understood.',
    wants: 'a URL such as postgresql://user:password@host:5432/name, best as ${NAME}',
    env: 'DATABASE_URL',
    otherwise: 'none: a SQLite file in `data`',
  }),
  migrate: setting(z.boolean().default(true), {
    says: 'Brings the schema up to date at the start. With `false` the broker is not ready until `sallyport-broker migrate` has run.',
    wants: 'true or false, without quotes',
    env: 'SALLYPORT_MIGRATE',
  }),
  allow_sqlite: setting(z.boolean().default(false), {
    says: 'Keeps to SQLite where it would be lost (on Cloud Run) or split (with several instances). What is enrolled there is gone with the instance.',
    wants: 'true or false, without quotes',
    env: 'SALLYPORT_ALLOW_SQLITE',
  }),
});

const Encryption = z.strictObject({
  keys: setting(z.array(text(readEncryptionKey)).min(1).optional(), {
    says: 'The keys that encrypt what the database must not show, each 32 bytes; `sallyport-broker keys new` makes one. The first encrypts, all decrypt.',
    wants: 'a list of keys, best as ${NAME}; each as base64, as hex, or as a Fernet key',
    env: 'ENCRYPTION_KEY',
    otherwise: 'with SQLite: one that is made at the first start and kept in `data`; with Postgres it is required',
  }),
});

const Timeouts = z.strictObject({
  connect_seconds: seconds(5, 'How long connecting to the provider may take.'),
  headers_seconds: seconds(30, 'How long the provider may take before it says that an answer comes.'),
  first_byte_seconds: seconds(120, 'How long it may think between saying so and the first piece of the answer.'),
  idle_seconds: seconds(60, 'How long an answer may pause between two pieces.'),
  total_seconds: seconds(600, 'How long a request may take altogether.'),
});

const Provider = z.strictObject({
  kind: setting(z.enum(KIND_NAMES), {
    says: 'How it is spoken to: `openai` is OpenAI itself, `openai-compatible` any server that speaks as OpenAI does, `echo` answers by itself, for trying things out.',
    wants: 'one of openai, openai-compatible and echo',
  }),
  base_url: setting(text(readBaseUrl).optional(), {
    says: 'The root of its API; the URL of its /chat/completions or /embeddings is understood too.',
    wants: 'a URL such as https://api.openai.com/v1',
    otherwise: '`https://api.openai.com/v1` for openai, required for openai-compatible, not taken by echo',
  }),
  api_key: setting(text(readApiKey).optional(), {
    says: 'The key that the provider gave you.',
    wants: 'a key, best as ${NAME}',
    otherwise: 'required for openai, none for openai-compatible, not taken by echo',
  }),
  models: setting(z.array(text(readModelName)).min(1).optional(), {
    says: 'The models it serves, by their full names. Where two providers serve a model, the first is asked.',
    wants: 'a list of at least one model name',
    otherwise: 'any model',
  }),
  allow_private: setting(z.boolean().default(false), {
    says: 'Allows plain http, and addresses of this machine and of private networks.',
    wants: 'true or false, without quotes',
  }),
  timeouts: Timeouts.prefault({}),
});

const Rate = z.strictObject({
  burst: setting(z.int().min(1).max(100_000).default(10), {
    says: 'How many requests each client may send at once.',
    wants: 'a whole number from 1 to 100000',
  }),
  per_second: setting(z.number().gt(0).max(100_000).default(5), {
    says: 'How many requests a second each client may keep sending; 0.5 is one every two seconds.',
    wants: 'a number above 0 and up to 100000',
  }),
  per_day: setting(z.int().min(1).max(1_000_000_000).default(200_000), {
    says: 'How many requests each client may send in a day, which begins at 00:00 UTC.',
    wants: 'a whole number from 1 to 1000000000',
  }),
});

const Product = z.strictObject({
  models: setting(z.array(text(readModelPattern)).min(1), {
    says: 'The models it allows; `*` stands for any characters, as in `gpt-4o-*`.',
    wants: 'a list of at least one model name or pattern',
  }),
  max_tokens: setting(z.int().min(1).max(200_000).optional(), {
    says: 'The longest answer that may be asked for.',
    wants: 'a whole number from 1 to 200000',
    otherwise: 'no ceiling',
  }),
  temperature: setting(z.tuple([z.number(), z.number()]).refine(isTemperatureRange).optional(), {
    says: 'The temperatures that may be asked for.',
    wants: 'two numbers from 0 to 2, the lower one first, as in [0, 1.5]',
    otherwise: 'any',
  }),
  rate: Rate.prefault({}),
});

const Client = z.strictObject({
  secret: setting(text(readSecret).optional(), {
    says: 'The secret it signs with (HMAC-SHA256), at least 32 bytes: those of the text itself, or those written as `hex:…` or `base64:…`.',
    wants: 'a secret, best as ${NAME}',
    otherwise: 'either this or public_key',
  }),
  public_key: setting(text(readPublicKey).optional(), {
    says: 'The public half of the key it signs with (Ed25519).',
    wants: 'a public key, as PEM or as the base64 of its 32 bytes',
    otherwise: 'either this or secret',
  }),
  products: setting(z.array(z.string()).min(1), {
    says: 'The products it may use.',
    wants: 'a list of at least one product',
  }),
});

/** The shape of sallyport.yaml. */
export const Settings = z.strictObject({
  public_url: setting(text(readPublicUrl).optional(), {
    says: 'The address that daemons dial and sign. Without it, signatures are taken over loopback only.',
    wants: 'a URL such as https://broker.example.com',
    env: 'SALLYPORT_PUBLIC_URL',
    otherwise: 'none',
  }),
  public_authorities: setting(z.array(text(readAuthority)).default([]), {
    says: 'Further hosts, or host:port, under which this broker is called.',
    wants: 'a list of hosts',
    env: 'SALLYPORT_PUBLIC_AUTHORITIES',
    otherwise: 'none',
  }),
  listen: Listen.prefault({}),
  data: setting(z.string().min(1).default('./data'), {
    says: 'The folder for what must outlive a restart. It begins at the folder of the file, or when the variable sets it, at the current one.',
    wants: 'the path of a folder',
    env: 'SALLYPORT_DATA',
  }),
  database: Database.prefault({}),
  encryption: Encryption.prefault({}),
  first_invite: setting(text(readFirstInvite).optional(), {
    says: 'Opens one invitation for a day where no shell can be had, as long as there is no device; `sallyport-broker invite --print-code` makes a code. Take it away once it was used.',
    wants: 'a product and a code, as in product-a:K7QM-3D8W-ZT4P-9HXC-62VN',
    env: 'SALLYPORT_FIRST_INVITE',
    otherwise: 'none',
  }),
  instances: setting(z.int().min(1).max(1000).default(1), {
    says: 'The most instances of this broker that run at once.',
    wants: 'a whole number from 1 to 1000',
    env: 'SALLYPORT_INSTANCES',
  }),
  trusted_proxy_hops: setting(z.int().min(0).max(10).optional(), {
    says: 'How many proxies stand in front and add to X-Forwarded-For; the address of a caller is read that many hops back.',
    wants: 'a whole number from 0 to 10',
    env: 'SALLYPORT_TRUSTED_PROXY_HOPS',
    otherwise: '`1` on Cloud Run and Render (where `K_SERVICE` or `RENDER` is set), else `0`',
  }),
  log: Log.prefault({}),
  limits: Limits.prefault({}),
  streams: Streams.prefault({}),
  shutdown: Shutdown.prefault({}),
  hide_upstream_errors: setting(z.boolean().default(false), {
    says: 'Answers whatever a provider did wrong, or was asked wrongly, with the same plain 502; what it was stands in the log.',
    wants: 'true or false, without quotes',
    env: 'SALLYPORT_HIDE_UPSTREAM_ERRORS',
  }),
  providers: setting(z.record(z.string(), Provider).default({}), {
    says: 'Who answers: the APIs of vendors, or servers of your own. The name is yours to choose.',
    wants: 'a map of providers, each as `name:` with its settings below',
  }),
  products: setting(z.record(z.string(), Product).default({}), {
    says: 'What may be asked: the models and limits that belong together.',
    wants: 'a map of products, each as `name:` with its settings below',
  }),
  clients: setting(z.record(z.string(), Client).default({}), {
    says: 'Who may ask: programs with a key of their own. The name of a client is the key id that it signs with.',
    wants: 'a map of clients, each as `name:` with its settings below',
  }),
});

/** The settings once they are read: what was written, with the defaults for the rest. */
export type Settings = z.infer<typeof Settings>;

// A text that is read further, into what it stands for: a normal form, a key, a secret.
function text<Value>(read: (written: string) => Value) {
  return z.string().transform((written, context) => {
    try {
      return read(written);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      context.addIssue(error.message);
      return z.NEVER;
    }
  });
}

function seconds(otherwise: number, says: string) {
  const wants = 'a number of seconds above 0 and up to 3600';
  return setting(z.number().gt(0).max(3600).default(otherwise), { says, wants });
}

function isTemperatureRange([from, to]: [number, number]): boolean {
  return 0 <= from && from <= to && to <= 2;
}

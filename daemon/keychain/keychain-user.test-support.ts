import { text } from 'node:stream/consumers';
import { Secret } from '@sallyport/protocol/secret.ts';
import { KeychainError } from './keychain-error.ts';
import { chooseKeychain, openKeychain, requireItem, type Backend, type KeychainSettings } from './keychain.ts';

// A process that uses a keychain, for the tests to start in one session or another: libsecret keeps the session that it
// found first for as long as the process lives. What to do comes by stdin, what came of it goes to stdout.

/** What one such process shall do. */
export type Task = {
  open?: Backend;
  wanted?: Backend;
  folder: string;
  passphrase?: string;
  insecureKeyFile?: boolean;
  /** Packages that this process shall not find. */
  missing?: string[];
  limitMs?: number;
  steps: (['get' | 'delete' | 'require', string] | ['set', string, string])[];
};

/** What came of it: of choosing or opening, and of each step. Values are in hex. */
export type Outcome = { value?: string; code?: string; says?: string };

/** All that the process has to tell. */
export type Report = {
  backend?: Backend;
  warning?: string;
  passedOver?: { backend: Backend; why: string }[];
  opened: Outcome;
  steps: Outcome[];
};

async function outcome(work: () => Promise<Buffer | undefined | void>): Promise<Outcome> {
  try {
    const value = await work();
    return value === undefined ? {} : { value: value.toString('hex') };
  } catch (error) {
    if (!(error instanceof KeychainError)) throw error;
    return { code: error.code, says: error.message };
  }
}

async function run(task: Task): Promise<Report> {
  const { folder, passphrase, insecureKeyFile, missing = [], limitMs, open, wanted } = task;
  const settings: KeychainSettings = {
    platform: process.platform,
    environment: process.env,
    installId: 'install-of-the-tests',
    file: {
      folder,
      passphrase: passphrase === undefined ? undefined : async () => new Secret(passphrase),
      insecureKeyFile,
    },
    load: (name) => import(missing.includes(name) ? `${name}-that-is-not-there` : name),
    ...(limitMs !== undefined && { limitMs }),
  };
  const report: Report = { opened: {}, steps: [] };
  report.opened = await outcome(async () => {
    const { keychain, passedOver } =
      open === undefined
        ? await chooseKeychain({ ...settings, wanted })
        : { keychain: await openKeychain(open, settings), passedOver: [] };
    Object.assign(report, { backend: keychain.backend, warning: keychain.warning, passedOver });
    for (const [what, name, value = ''] of task.steps) {
      report.steps.push(
        await outcome(async () => {
          if (what === 'get') return keychain.get(name);
          if (what === 'require') return requireItem(keychain, name);
          if (what === 'delete') return keychain.delete(name);
          return keychain.set(name, Buffer.from(value, 'hex'));
        }),
      );
    }
  });
  return report;
}

const report = await run(JSON.parse(await text(process.stdin)) as Task);
process.stdout.write(JSON.stringify(report));

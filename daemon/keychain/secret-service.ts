import { execFile } from 'node:child_process';

// Asked of the Secret Service (gnome-keyring, KWallet, KeePassXC) itself, through whichever of three small programs is
// there. keytar answers "no such item" for a locked keyring and for an emptied one alike; one means "unlock it" and the
// other "enrol again", and whoever enrols again without need loses a key that was never gone.

/**
 * How the default keyring is. `none`: the service is there and has no default keyring. `absent`: there is no service.
 * `silent`: it does not answer in time. `unknown`: there is no program to ask with.
 */
export type KeyringState = 'unlocked' | 'locked' | 'none' | 'absent' | 'silent' | 'unknown';

/** The variables of the environment, as main read them. */
export type Environment = Readonly<Record<string, string | undefined>>;

const NAME = 'org.freedesktop.secrets';
const ROOT = '/org/freedesktop/secrets';

// One call in the words of each program: the object, the method, and its arguments, which are all strings.
const PROGRAMS: readonly [string, (path: string, method: string, words: readonly string[]) => string[]][] = [
  [
    'gdbus',
    (path, method, words) =>
      ['call', '--session', '--dest', NAME, '--object-path', path, '--method', method].concat(words),
  ],
  [
    'busctl',
    (path, method, words) => {
      const dot = method.lastIndexOf('.');
      const [holder, member] = [method.slice(0, dot), method.slice(dot + 1)];
      return ['--user', 'call', NAME, path, holder, member, 's'.repeat(words.length)].concat(words);
    },
  ],
  [
    'dbus-send',
    (path, method, words) =>
      ['--session', '--print-reply=literal', `--dest=${NAME}`, path, method].concat(
        words.map((word) => `string:${word}`),
      ),
  ],
];

/** Asks how the default keyring of this session is, in two questions with a limit each; it does not throw. */
export async function keyringState(environment: Environment, limitMs: number): Promise<KeyringState> {
  for (const [program, say] of PROGRAMS) {
    const ask = (path: string, method: string, ...words: string[]) =>
      run(program, say(path, method, words), environment, limitMs);
    const alias = await ask(ROOT, 'org.freedesktop.Secret.Service.ReadAlias', 'default');
    if (alias === 'missing') continue;
    if (alias === 'silent') return 'silent';
    if (alias === 'refused') return 'absent';
    // "/" is how D-Bus says that there is no object; a question to it is refused like one to a keyring that was deleted.
    const path = /\/[\w/]*/.exec(alias.says)?.[0] ?? '/';
    const locked = await ask(
      path,
      'org.freedesktop.DBus.Properties.Get',
      'org.freedesktop.Secret.Collection',
      'Locked',
    );
    if (locked === 'silent') return 'silent';
    if (typeof locked === 'string') return 'none';
    return /\btrue\b/.test(locked.says) ? 'locked' : 'unlocked';
  }
  return 'unknown';
}

type Answer = { says: string } | 'missing' | 'refused' | 'silent';

function run(program: string, words: readonly string[], environment: Environment, limitMs: number): Promise<Answer> {
  // Only what finds the program and the bus: what else is in our environment is no business of theirs.
  const { PATH, DBUS_SESSION_BUS_ADDRESS, XDG_RUNTIME_DIR } = environment;
  const env = Object.fromEntries(
    Object.entries({ PATH, DBUS_SESSION_BUS_ADDRESS, XDG_RUNTIME_DIR, LC_ALL: 'C' }).filter(
      ([, value]) => value !== undefined,
    ),
  );
  return new Promise((resolve) => {
    const limits = { timeout: limitMs, killSignal: 'SIGKILL', maxBuffer: 4096 } as const;
    execFile(program, words, { env, encoding: 'utf8', ...limits }, (error, says) => {
      if (error === null) resolve({ says });
      else if (error.killed === true) resolve('silent');
      else resolve(['ENOENT', 'EACCES'].includes(String(error.code)) ? 'missing' : 'refused');
    });
  });
}

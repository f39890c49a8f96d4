import type { Environment } from './expand.ts';
import { nearest } from './nearest.ts';
import type { Mistake, Place } from './place.ts';
import { Settings } from './schema.ts';
import { readAs, settingsIn } from './setting.ts';

const OURS = 'SALLYPORT_';

/** The variable that holds the path of the file. All others belong to a setting, and stand beside it in schema.ts. */
export const FILE_VARIABLE = 'SALLYPORT_CONFIG';

// Those of the daemon, which often runs on the same machine.
const DAEMON_VARIABLES = ['HOME', 'PORT', 'KEYCHAIN', 'INSECURE_KEY_FILE'].map((name) => OURS + name);

type Written = { readonly values: Record<string, unknown>; readonly place: Place };

/** Lays the variables over what the file says. An empty one counts as not set: that is how many tools write "not set". */
export function overlay({ values, place }: Written, env: Environment): void {
  for (const { path, about } of settingsIn(Settings)) {
    const text = about.env === undefined ? undefined : env[about.env];
    if (text === undefined || text === '') continue;
    put(values, place, path, readAs(Settings, path, text), `environment ${about.env}`);
  }
}

/**
 * Variables that look like ours and are not: a misspelt one would otherwise do nothing, without a word. Those that the file
 * mentions are its own; while it cannot be read, nothing is said of any.
 */
export function checkVariables(env: Environment, mentioned: ReadonlySet<string> | undefined): Mistake[] {
  if (mentioned === undefined) return [];
  const known = [
    FILE_VARIABLE,
    ...DAEMON_VARIABLES,
    ...[...settingsIn(Settings)].flatMap(({ about }) => about.env ?? []),
  ];
  const byShortName = new Map(known.map((name) => [shortName(name), name]));
  return Object.keys(env)
    .filter((name) => name.startsWith(OURS) && !known.includes(name) && !mentioned.has(name))
    .map((name) => {
      const meant = byShortName.get(nearest(shortName(name), byShortName.keys()) ?? '');
      const says = `There is no such variable; ${meant ? `did you mean ${meant}?` : 'take it away, or mention it in the file.'}`;
      return { place: `environment ${name}`, says };
    });
}

// SALLYPORT_PORT is nearest to PORT once the part is gone that says nothing.
function shortName(name: string): string {
  return name.replace(OURS, '');
}

function put(values: Record<string, unknown>, place: Place, path: string[], value: unknown, origin: string): void {
  const [name = '', ...rest] = path;
  const own: Place = { key: origin, value: origin, from: 'environment', inside: new Map() };
  if (rest.length === 0) {
    values[name] = value;
    place.inside.set(name, own);
    return;
  }
  const inner = (values[name] ??= {});
  const around = place.inside.get(name) ?? own;
  place.inside.set(name, around);
  // Where the file has a list or a text in place of this map, that is told; there is nothing to lay the variable over.
  if (typeof inner !== 'object' || Array.isArray(inner)) return;
  put(inner as Record<string, unknown>, around, rest, value, origin);
}

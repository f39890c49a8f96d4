/** The way from the root of the configuration to one setting: `['products', 'product-a', 'rate', 'burst']`. */
export type Path = readonly (string | number)[];

/** Where one piece of the configuration was written. The pieces inside it have places of their own. */
export type Place = {
  /** Where its name stands, as in `sallyport.yaml:12:7`, or `environment PORT`. */
  readonly key: string;
  readonly value: string;
  /** A variable names its setting already, so the path is told only for what stands in the file. */
  readonly from: 'file' | 'environment';
  readonly inside: Map<string | number, Place>;
};

/** Something to mend: where it is, and a sentence that says what to do. */
export type Mistake = { readonly place: string; readonly says: string };

/** A mistake while it is still looked for: it knows the setting, but not yet the line. */
export type Finding = {
  readonly path: Path;
  /** Which half of `name: value` is at fault; the value, if nothing is said. */
  readonly at?: 'key' | 'value';
  readonly says: string;
};

/** Whether the setting was written at all, even if what was written cannot be used. */
export function isWritten(root: Place, path: Path): boolean {
  let place: Place | undefined = root;
  for (const step of path) place = place?.inside.get(step);
  return place !== undefined;
}

/** The names written in a section, those of mistaken entries included. */
export function namesIn(root: Place, section: string): string[] {
  return [...(root.inside.get(section)?.inside.keys() ?? [])].filter((step) => typeof step === 'string');
}

/** Puts the place to a finding. What is missing has no place, so the nearest thing around it is pointed at. */
export function locate(root: Place, { path, at = 'value', says }: Finding): Mistake {
  let place = root;
  let half: 'key' | 'value' = at;
  for (const step of path) {
    const next = place.inside.get(step);
    if (next === undefined) {
      half = 'key';
      break;
    }
    place = next;
  }
  return { place: place.from === 'file' ? `${place[half]} ${tell(path)}`.trim() : place[half], says };
}

/** Writes a path the way people do: `clients.desktop.products[0]`. */
export function tell(path: Path): string {
  return path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index === 0 ? '' : '.'}${nameOf(step)}`))
    .join('');
}

const LONGEST_NAME = 31;

// With a space or a colon forgotten, `api_key:sk-live-…` is a name to YAML, or a secret stands there alone. So a name is told
// only as far as it can be one, and what is as long as a secret must be is hardly told at all.
function nameOf(key: string): string {
  const name = /^[\w.-]*/.exec(key)?.[0] ?? '';
  if (name.length > LONGEST_NAME) return `${name.slice(0, 4)}…`;
  return name === key ? name : `${name}…`;
}

const natural = new Intl.Collator('en', { numeric: true });

/** Sorts mistakes as a person mends them: the environment first, then down the file. */
export function inFileOrder(one: Mistake, other: Mistake): number {
  return natural.compare(one.place, other.place);
}

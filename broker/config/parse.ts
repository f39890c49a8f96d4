import type { z } from 'zod';
import { inWords, nearest } from './nearest.ts';
import { isWritten } from './place.ts';
import type { Finding, Path, Place } from './place.ts';
import { Settings } from './schema.ts';
import { aboutSetting, namesAt, schemaAt } from './setting.ts';

/**
 * Reads the values as settings. Where some are mistaken, the rest is read without them, so that the rules between settings
 * can be looked at in the same go and people see every mistake at once.
 */
export function parse(values: unknown, place: Place): { settings: Settings; findings: Finding[] } {
  const read = Settings.safeParse(values, { error: sentence });
  if (read.success) return { settings: read.data, findings: [] };
  const { issues } = read.error;
  return { settings: readRest(values, issues), findings: issues.flatMap((issue) => findingsOf(issue, values, place)) };
}

// Without its mistakes, what is left may miss something; so it is read again, and again, until it holds. Nothing always does.
function readRest(values: unknown, issues: z.core.$ZodIssue[]): Settings {
  const rest = issues.reduce(without, structuredClone(values));
  const read = Settings.safeParse(rest);
  return read.success ? read.data : readRest(rest, read.error.issues);
}

function findingsOf(issue: z.core.$ZodIssue, values: unknown, place: Place): Finding[] {
  const path = issue.path as Path;
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...path, key], at: 'key', says: unknownName(path, key) }));
  }
  // Written, and yet without a value: its variable could not be filled in, and that was told.
  if (valueAt(values, path) === undefined && isWritten(place, path)) return [];
  return [{ path, says: issue.message }];
}

// Sentences say what to write and never repeat what was written: a secret in the wrong line would be in the log.
function sentence(issue: z.core.$ZodRawIssue): string {
  const wants = wanted((issue.path ?? []) as Path);
  if (issue.input === undefined) return `This setting is missing; write ${wants}.`;
  if (issue.input === null) return `There is no value here; write ${wants}, or take the name away.`;
  if (issue.code === 'invalid_type' && !(isNumber(issue.input) && /^(int|number)$/.test(issue.expected))) {
    return `Write ${wants}; this is ${kindOf(issue.input)}.`;
  }
  const meant = issue.code === 'invalid_value' && nearest(String(issue.input), issue.values.map(String));
  return meant ? `Write ${wants}; did you mean ${meant}?` : `Write ${wants}.`;
}

function unknownName(path: Path, key: string): string {
  if (key.includes(':')) return 'There is no such setting; a space is missing after the colon.';
  const names = namesAt(Settings, path);
  const meant = nearest(key, names);
  if (meant) return `There is no such setting here; did you mean ${meant}?`;
  return `There is no such setting here; ${names.length > 1 ? 'there are' : 'there is only'} ${inWords(names)}.`;
}

function wanted(path: Path): string {
  const schema = schemaAt(Settings, path);
  // Inside a pair such as [0, 2] nothing has a name of its own: the words are those of the pair.
  if (schema === undefined && path.length > 0) return wanted(path.slice(0, -1));
  const about = schema && aboutSetting(schema);
  if (about) return about.wants;
  return namesAt(Settings, path).length > 0
    ? 'a map, one `name: value` a line'
    : 'a name, in quotes if it looks like a number';
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'string') return 'text';
  if (typeof value === 'boolean') return 'true or false';
  return isNumber(value) ? 'a number' : 'a map';
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number';
}

// Takes out what an issue is about. A list goes as a whole, so that the numbers of its items keep meaning the same.
function without(values: unknown, issue: z.core.$ZodIssue): unknown {
  const path = issue.path as Path;
  if (issue.code === 'unrecognized_keys') {
    for (const key of issue.keys) remove(values, [...path, key]);
    return values;
  }
  if (path.length === 0) return {};
  const item = path.findIndex((step) => typeof step === 'number');
  const whole = item === -1 ? path : path.slice(0, item);
  // What is missing cannot be taken out; then what misses it must go.
  if (!remove(values, whole)) remove(values, whole.slice(0, -1));
  return values;
}

function remove(values: unknown, path: Path): boolean {
  const around = valueAt(values, path.slice(0, -1));
  const name = path.at(-1);
  if (!isMap(around) || name === undefined || !Object.hasOwn(around, name)) return false;
  return delete around[name];
}

function valueAt(values: unknown, path: Path): unknown {
  let value = values;
  for (const step of path) value = typeof value === 'object' && value !== null ? Reflect.get(value, step) : undefined;
  return value;
}

function isMap(value: unknown): value is Record<string | number, unknown> {
  return typeof value === 'object' && value !== null;
}

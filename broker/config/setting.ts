import { z } from 'zod';
import type { Path } from './place.ts';

/** What people need to know about one setting. It stands beside the setting in schema.ts; the reference prints it. */
export type Setting = {
  /** What it is for. */
  says: string;
  /** What may be written, so that "Write …" before it is a sentence. */
  wants: string;
  /** The environment variable that beats the file. */
  env?: string;
  /** The default in words, where it is not one value. */
  otherwise?: string;
};

const known = z.registry<Setting>();

/** Puts the words beside a setting. */
export function setting<Schema extends z.ZodType>(schema: Schema, about: Setting): Schema {
  known.add(schema, about);
  return schema;
}

/** The words beside a setting, if it has any. */
export function aboutSetting(schema: z.ZodType): Setting | undefined {
  return known.get(schema);
}

/** The schema of the setting at a path, or nothing when there is no such setting. */
export function schemaAt(root: z.ZodType, path: Path): z.ZodType | undefined {
  let schema: z.ZodType | undefined = root;
  for (const step of path) schema = schema && child(bare(schema), step);
  return schema;
}

/** The names that may stand in the map at a path; nothing when the names there are free to choose. */
export function namesAt(root: z.ZodType, path: Path): string[] {
  const schema = schemaAt(root, path);
  const map = schema && bare(schema);
  return map instanceof z.ZodObject ? Object.keys(map.shape) : [];
}

/** Reads the text of a variable as the setting at this path wants it. Text that does not fit stays text, and is told later. */
export function readAs(root: z.ZodType, path: Path, text: string): unknown {
  const schema = schemaAt(root, path);
  const wanted = schema && bare(schema);
  if (wanted instanceof z.ZodNumber && /^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  if (wanted instanceof z.ZodBoolean && /^(true|false)$/.test(text)) return text === 'true';
  if (wanted instanceof z.ZodArray) return text.split(/[,\s]+/).filter((item) => item !== '');
  return text;
}

/** One setting as the reference shows it, and as the environment finds it. */
export type Row = { path: string[]; about: Setting; schema: z.ZodType };

/** Every setting that has words beside it, in the order they are written; `*` stands for a name that is free to choose. */
export function* settingsIn(schema: z.ZodType, path: string[] = []): Generator<Row> {
  const about = aboutSetting(schema);
  if (about) yield { path, about, schema };
  const inner = bare(schema);
  if (inner instanceof z.ZodRecord) yield* settingsIn(inner.valueType as z.ZodType, [...path, '*']);
  if (!(inner instanceof z.ZodObject)) return;
  for (const [name, field] of Object.entries(inner.shape)) yield* settingsIn(field as z.ZodType, [...path, name]);
}

/** What stands for a setting that is left out: its value, `undefined` when there is none, or `required`. */
export function defaultOf(schema: z.ZodType): { value: unknown } | 'required' {
  if (schema instanceof z.ZodDefault) return { value: schema.def.defaultValue };
  return schema.safeParse(undefined).success ? { value: undefined } : 'required';
}

// A setting is wrapped in what makes it optional and what reads its text further; this is the setting itself.
function bare(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return bare(schema.unwrap() as z.ZodType);
  }
  return schema instanceof z.ZodPipe ? bare(schema.in as z.ZodType) : schema;
}

function child(schema: z.ZodType, step: string | number): z.ZodType | undefined {
  if (schema instanceof z.ZodObject) {
    return Object.hasOwn(schema.shape, step) ? (schema.shape[step] as z.ZodType) : undefined;
  }
  if (schema instanceof z.ZodRecord) return schema.valueType as z.ZodType;
  return schema instanceof z.ZodArray ? (schema.element as z.ZodType) : undefined;
}

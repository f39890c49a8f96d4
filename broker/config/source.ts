import { isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { ParsedNode, YAMLMap } from 'yaml';
import { expand, hideVariables, isOneVariable, showVariables } from './expand.ts';
import type { Environment } from './expand.ts';
import type { Finding, Mistake, Path, Place } from './place.ts';
import { Settings } from './schema.ts';
import { readAs } from './setting.ts';
import { ALIAS, sayingOf } from './slips.ts';

/** What was written: the values with their variables filled in, the place of each, and what could not be read. */
export type Source = {
  readonly values: Record<string, unknown>;
  readonly place: Place;
  readonly findings: readonly Finding[];
  /** What is wrong with the file as a whole: it has a place, but belongs to no setting. */
  readonly mistakes: readonly Mistake[];
};

/** A source that says nothing: there is no file, or it cannot be read. */
export function emptySource(...mistakes: Mistake[]): Source {
  return { values: {}, place: { key: '', value: '', from: 'file', inside: new Map() }, findings: [], mistakes };
}

/** Reads the text of a YAML file. Nothing in it makes this throw. */
export function readSource(file: string, fileName: string, env: Environment): Source {
  const lines = new LineCounter();
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${fileName}:${line}:${col}`;
  };
  const document = parseDocument(hideVariables(file), {
    lineCounter: lines,
    schema: 'core',
    resolveKnownTags: false,
    stringKeys: true,
    uniqueKeys: false, // looked at below, where the setting has a name
    prettyErrors: false,
    logLevel: 'error', // with `silent`, a second document is ignored
  });
  // After the first slip the parser stumbles over whatever follows.
  const slip = document.errors[0] ?? document.warnings[0];
  if (slip !== undefined) return emptySource({ place: at(slip.pos[0]), says: sayingOf(slip) });
  const root = document.contents;
  if (root === null || isEmpty(root)) {
    return emptySource({ place: at(0), says: 'The file is empty; write settings into it, or start without it.' });
  }
  if (!isMap(root)) {
    return emptySource({ place: at(root.range[0]), says: 'Write one setting a line here, each as `name: value`.' });
  }

  const findings: Finding[] = [];

  function read(node: ParsedNode | null, path: Path, place: Place): unknown {
    if (isMap(node)) return readMap(node, path, place);
    if (isSeq(node)) return node.items.map((item, index) => readInto(place, item, [...path, index], at(item.range[0])));
    if (isScalar(node)) return readScalar(node.value, path);
    if (node === null) return null;
    findings.push({ path, says: ALIAS });
    return undefined;
  }

  function readInto(around: Place, node: ParsedNode | null, path: Path, key: string): unknown {
    const value = node === null || isEmpty(node) ? key : at(node.range[0]);
    const place: Place = { key, value, from: 'file', inside: new Map() };
    around.inside.set(path.at(-1) ?? '', place);
    return read(node, path, place);
  }

  function readMap(map: YAMLMap.Parsed, path: Path, place: Place): Record<string, unknown> {
    const values: Record<string, unknown> = {};
    for (const pair of map.items) {
      const name = isScalar(pair.key) ? showVariables(String(pair.key.value ?? '')) : '';
      const inner = [...path, name];
      const isRepeated = place.inside.has(name);
      const value = readInto(place, pair.value, inner, at(pair.key.range[0]));
      if (isRepeated) findings.push({ path: inner, at: 'key', says: 'This name stands here twice; keep one.' });
      if (name === '__proto__') {
        // It would change the object instead of adding to it, and a schema passes over it without a word.
        findings.push({ path: inner, at: 'key', says: 'This name cannot be used; choose another.' });
      } else {
        values[name] = value;
      }
    }
    return values;
  }

  function readScalar(scalar: unknown, path: Path): unknown {
    if (typeof scalar !== 'string') return scalar;
    const value = showVariables(scalar);
    const { text, mistakes } = expand(value, env);
    for (const says of mistakes) findings.push({ path, says });
    // It has been told: the value is left out now, so that nobody judges it as if it had been meant.
    if (mistakes.length > 0) return undefined;
    return isOneVariable(value) ? readAs(Settings, path, text) : text;
  }

  const place: Place = { key: at(0), value: at(0), from: 'file', inside: new Map() };
  return { values: readMap(root, [], place), place, findings, mistakes: [] };
}

function isEmpty(node: ParsedNode): boolean {
  return isScalar(node) && node.value === null && node.range[0] === node.range[1];
}

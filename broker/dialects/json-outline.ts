import { ApiError } from '@sallyport/protocol/errors.ts';

/** Where a value stands in the body: its first byte, and the byte behind its last. */
export type Span = { readonly from: number; readonly to: number };

const STARTS = { string: '"', number: '-0123456789', boolean: 'tf' } as const;
const MUST_BE = { string: 'must be a string', number: 'must be a number', boolean: 'must be true or false' } as const;

/** The top level of a body that passed the gate: a member is decoded only when asked for, and a null counts as absent. */
export class JsonOutline {
  readonly #body: Buffer;
  readonly #members: ReadonlyMap<string, Span>;
  readonly #closesAt: number;

  constructor(body: Buffer, members: ReadonlyMap<string, Span>, closesAt: number) {
    this.#body = body;
    this.#members = members;
    this.#closesAt = closesAt;
  }

  string(name: string): string | undefined {
    const text = this.#scalar(name, 'string');
    return text === undefined ? undefined : JSON.parse(text);
  }

  number(name: string): number | undefined {
    const text = this.#scalar(name, 'number');
    return text === undefined ? undefined : Number(text);
  }

  boolean(name: string): boolean | undefined {
    const text = this.#scalar(name, 'boolean');
    return text === undefined ? undefined : text === 'true';
  }

  /** Whether the member is written in the body, be it as null. */
  has(name: string): boolean {
    return this.#members.has(name);
  }

  /** The member's bytes as the caller wrote them, be it null. */
  raw(name: string): Buffer | undefined {
    const span = this.#members.get(name);
    return span && this.#body.subarray(span.from, span.to);
  }

  /** The member as a tree; this costs what JSON.parse costs. */
  json(name: string): unknown {
    const raw = this.raw(name);
    return raw && JSON.parse(raw.toString());
  }

  /** A new body in which these members have these values; every other byte stays as the caller wrote it. */
  with(changes: Record<string, string | number | boolean | object | null>): Buffer {
    const left = new Map(Object.entries(changes));
    const parts: Buffer[] = [];
    let copied = 0;
    for (const [name, { from, to }] of this.#members) {
      const value = left.get(name);
      if (value === undefined) continue;
      parts.push(this.#body.subarray(copied, from), Buffer.from(JSON.stringify(value)));
      copied = to;
      left.delete(name);
    }
    const added = Array.from(left, ([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
    const comma = added.length > 0 && this.#members.size > 0 ? ',' : '';
    parts.push(this.#body.subarray(copied, this.#closesAt), Buffer.from(comma + added.join()));
    return Buffer.concat([...parts, this.#body.subarray(this.#closesAt)]);
  }

  // The kind is told from the first byte: no long array is decoded only to learn that it is no string.
  #scalar(name: string, kind: keyof typeof STARTS): string | undefined {
    const raw = this.raw(name);
    const first = String.fromCharCode(raw?.[0] ?? 0);
    if (raw === undefined || first === 'n') return undefined;
    if (STARTS[kind].includes(first)) return raw.toString();
    throw new ApiError('field_invalid', { param: name, facts: { field: name, why: MUST_BE[kind] } });
  }
}

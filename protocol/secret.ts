import { inspect } from 'node:util';

const SHOWN_AS = '[secret]';

/**
 * A value that will not print itself: not in a log line, not in JSON, not in a template string, not in a debugger dump.
 * `reveal()` is the word to search for in a review; only the line that signs or sends should say it.
 */
export class Secret<Value extends string | Buffer = string> {
  readonly #value: Value;

  constructor(value: Value) {
    this.#value = value;
  }

  reveal(): Value {
    return this.#value;
  }

  toString(): string {
    return SHOWN_AS;
  }

  toJSON(): string {
    return SHOWN_AS;
  }

  [inspect.custom](): string {
    return SHOWN_AS;
  }
}

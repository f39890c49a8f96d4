/** The variables a program was started with. */
export type Environment = Readonly<Record<string, string | undefined>>;

// `$${` first, so that the second `$` of it never begins a variable. What follows `${` up to the next `}` is looked at below.
const REFERENCE = /\$\$\{|\$\{([^}]*)(\}?)/g;
const FORM = /^([A-Za-z_][A-Za-z0-9_]*)(?::([-?])([^{]*))?$/;

/**
 * Fills in `${NAME}`, `${NAME:-default}` and `${NAME:?message}`; `$${` is a plain `${`. It works on the text of one value,
 * after YAML has been read, and never on its own output: what a variable holds cannot become YAML or another variable.
 */
export function expand(text: string, env: Environment): { text: string; mistakes: string[] } {
  const mistakes: string[] = [];
  const filled = text.replace(REFERENCE, (whole, inside: string | undefined, end: string | undefined) => {
    if (whole === '$${') return '${';
    const [, name, sign, rest = ''] = (end && FORM.exec(inside ?? '')) || [];
    if (name === undefined) {
      mistakes.push('Write a variable as ${NAME}, ${NAME:-default} or ${NAME:?message}; for a plain ${ write $${.');
      return '';
    }
    const value = env[name];
    if (sign === undefined) {
      if (value === undefined) mistakes.push(`The variable ${name} is not set; set it, or write \${${name}:-default}.`);
      return value ?? '';
    }
    if (value !== undefined && value !== '') return value;
    if (sign === '-') return rest;
    mistakes.push(`The variable ${name} is not set: ${rest || 'it is required'}.`.replace(/([.!?])\.$/, '$1'));
    return '';
  });
  return { text: filled, mistakes };
}

// The characters that YAML gives a meaning, which it must not find inside a variable; and what stands for each meanwhile.
const MEANT_BY_YAML = '{}[],:#';
const FIRST_STAND_IN = 0xe000;

/**
 * Hides the insides of variables from YAML, so that `{ secret: ${NAME} }` needs no quotes: to YAML those braces would be a
 * map. Every character is replaced by one other, so that places in the text stay where they are.
 */
export function hideVariables(file: string): string {
  return file.replace(/\$\{[^{}\n]*\}/g, (reference) =>
    reference.replace(/[{}[\],:#]/g, (char) => String.fromCharCode(FIRST_STAND_IN + MEANT_BY_YAML.indexOf(char))),
  );
}

/** Shows what `hideVariables` hid. */
export function showVariables(text: string): string {
  return text.replace(/[\ue000-\ue006]/g, (char) => MEANT_BY_YAML[char.charCodeAt(0) - FIRST_STAND_IN]!);
}

/** Whether a value is one variable and nothing else, and so may stand for a number or for true and false. */
export function isOneVariable(text: string): boolean {
  return /^\$\{[^{}]*\}$/.test(text);
}

/** The names of all variables that a file mentions. */
export function variablesIn(file: string): Set<string> {
  return new Set(Array.from(file.matchAll(/\$\{(\w+)/g), ([, name = '']) => name));
}

const LONGEST_WORD = 100;

/** The name that was probably meant, or nothing when none is close: at most a third of the letters may differ. */
export function nearest(word: string, names: Iterable<string>): string | undefined {
  if (word.length > LONGEST_WORD) return undefined;
  const meant = word.toLowerCase();
  let best: { name: string; slips: number } | undefined;
  for (const name of names) {
    const slips = countSlips(meant, name.toLowerCase());
    if (slips <= Math.max(1, Math.floor(name.length / 3)) && slips < (best?.slips ?? Infinity)) best = { name, slips };
  }
  return best?.name;
}

/** Says names the way a sentence does: `kind, base_url and api_key`. */
export function inWords(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

// How many letters must be added, dropped, changed or swapped with their neighbour (optimal string alignment).
function countSlips(from: string, to: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const changed = from[row - 1] === to[column - 1] ? 0 : 1;
      let slips = Math.min((last[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, (last[column - 1] ?? 0) + changed);
      const swapped = from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      if (row > 1 && column > 1 && swapped) slips = Math.min(slips, (beforeLast[column - 2] ?? 0) + 1);
      current.push(slips);
    }
    beforeLast = last;
    last = current;
  }
  return last[to.length] ?? 0;
}

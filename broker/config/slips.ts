import type { YAMLError } from 'yaml';

/**
 * What to say of an alias. They could be followed, at the price of a limit (an alias of an alias of an alias fills the
 * memory) and of values that stand in two places. This file does not need them, and `*` is more often meant as our pattern.
 */
export const ALIAS =
  'YAML takes a * at the beginning for an alias, which is not read here; put a pattern in quotes, as in "*-mini".';

const SLIPS: Partial<Record<YAMLError['code'], string>> = {
  BAD_ALIAS: ALIAS,
  BAD_DQ_ESCAPE: 'YAML knows no such escape; write \\\\ for a backslash, or use single quotes.',
  BAD_INDENT: 'The indentation does not fit here; line it up with its neighbours, and close what { or [ opened.',
  BAD_SCALAR_START: 'A value cannot begin with this character; put the value in quotes.',
  BLOCK_AS_IMPLICIT_KEY:
    'A second `name:` begins inside this value; give it a line of its own, or put the value in quotes.',
  MISSING_CHAR: 'A colon, a comma or a closing quote is missing here or before.',
  MULTILINE_IMPLICIT_KEY:
    'A name must fit on one line; perhaps the colon after it, or the space after the colon, is missing.',
  MULTIPLE_DOCS: 'A second document begins here; write everything in one, without ---.',
  NON_STRING_KEY: 'A name must be plain text.',
  RESOURCE_EXHAUSTION: 'This is nested too deeply to be read.',
  TAB_AS_INDENT: 'A tab indents this line; YAML takes only spaces.',
  TAG_RESOLVE_FAILED: 'Tags (!name) are not read here; write the plain value.',
};

/** Says a slip in our words. The parser's own words quote the file, and the file may hold secrets. */
export function sayingOf(slip: YAMLError): string {
  return SLIPS[slip.code] ?? 'YAML cannot be read from here on; check the quotes, brackets and colons.';
}

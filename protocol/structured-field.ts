import { parseDictionary, serializeDictionary, type Dictionary } from 'structured-headers';

const LONGEST_FIELD = 2048;
const MOST_MEMBERS = 4;

/**
 * Reads a dictionary field (RFC 8941) that is spelled in the one canonical way, or gives undefined.
 *
 * Without the comparison the parser, like every library tried, accepts a flipped last base64 character, dropped padding,
 * extra spaces and `1.0` for `1`, and keeps the last of two equal keys: many spellings of one signature, each of which
 * a replay store or a front end could take for another.
 */
export function readOneSpelling(raw: string): Dictionary | undefined {
  if (raw.length > LONGEST_FIELD) return undefined;
  let dictionary: Dictionary;
  try {
    dictionary = parseDictionary(raw);
    if (serializeDictionary(dictionary) !== raw) return undefined;
  } catch {
    // The parser's own words quote the input; "not readable" is all a caller needs, and all we want to repeat.
    return undefined;
  }
  return dictionary.size <= MOST_MEMBERS ? dictionary : undefined;
}

import type { Config } from '../config/config.ts';

/** What a command may do to the world around it; main hands it over, a test brings its own. */
export type Terminal = {
  /** Reads the configuration, or says every mistake in it and gives undefined. */
  readConfig: (file: string | undefined) => Config | undefined;
  now: () => number;
  /** A line for the person, on standard error. */
  say: (line: string) => void;
  /** A piece of the result, on standard output. */
  write: (text: string) => void;
  exit: (code: number) => void;
  untilAskedToStop: () => Promise<string>;
};

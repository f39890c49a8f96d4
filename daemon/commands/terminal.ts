import type { DaemonConfig } from '../config.ts';
import type { World } from '../self.ts';
import { TellableError } from '../tellable-error.ts';

/** What a command may do to the world around it; main hands it over, a test brings its own. */
export type Terminal = {
  readConfig: () => DaemonConfig;
  world: World;
  pid: number;
  /** A line for the person, on standard error. */
  say: (line: string) => void;
  /** A piece of the result, on standard output. */
  write: (text: string) => void;
  exit: (code: number) => void;
  /** A line that the person types, or that a pipe brings. */
  ask: (prompt: string) => Promise<string>;
  untilAskedToStop: () => Promise<string>;
};

/** Ends a command with a sentence, where what went wrong was written for a person. */
export async function telling(terminal: Terminal, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof TellableError)) throw error;
    terminal.say(error.message);
    terminal.exit(error.exitCode);
  }
}

/** Lines of two columns, the first as wide as its longest. */
export function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('');
}

import { ApiError } from '@sallyport/protocol/errors.ts';
import type { Config } from '../config/config.ts';
import { OperatorError } from '../log/operator-error.ts';
import type { Terminal } from './terminal.ts';

/** Does what a command does with this configuration; what was thrown for the operator is said, and the command fails. */
export async function reporting(
  terminal: Terminal,
  { config: file }: { config?: string },
  act: (config: Config) => Promise<void>,
): Promise<void> {
  const config = terminal.readConfig(file);
  if (config === undefined) return terminal.exit(1);
  try {
    await act(config);
  } catch (error) {
    if (error instanceof OperatorError) terminal.say(error.message);
    // The database, once it was open: a caller must not know why it cannot be used, an operator must.
    else if (error instanceof ApiError) terminal.say(`${error.message} (${(error.cause as Error).message})`);
    else throw error;
    terminal.exit(1);
  }
}

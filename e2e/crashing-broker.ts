import { TransactionBuilder } from 'kysely';
import { serveCommand } from '../broker/commands/serve.ts';
import { createTerminal } from '../broker/main.ts';

// A broker that is killed at a chosen commit: CRASH=before:3 at the third after its start, with everything written and
// nothing committed; CRASH=after:3 once that is committed and nobody has been told.

const [when, which] = (process.env['CRASH'] ?? '').split(':');
let committed = 0;
let isServing = false;

const execute = TransactionBuilder.prototype.execute;
TransactionBuilder.prototype.execute = async function (act) {
  const isTheOne = isServing && ++committed === Number(which);
  const value = await execute.call(this, async (tx) => {
    const written: unknown = await act(tx);
    if (isTheOne && when === 'before') process.kill(process.pid, 'SIGKILL');
    return written;
  });
  if (isTheOne && when === 'after') process.kill(process.pid, 'SIGKILL');
  return value as never;
};

// What the start itself writes is not counted.
process.on('SIGUSR2', () => {
  isServing = true;
  process.stdout.write('{"message":"armed"}\n');
});

await serveCommand(createTerminal()).parseAsync(process.argv.slice(3), { from: 'user' });

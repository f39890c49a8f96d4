import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { homedir, hostname, release, uptime } from 'node:os';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { appsCommand } from './commands/apps.ts';
import { enrollCommand } from './commands/enroll.ts';
import { forgetCommand, rotateCommand } from './commands/keys.ts';
import { runCommand } from './commands/run.ts';
import { statusCommand } from './commands/status.ts';
import type { Terminal } from './commands/terminal.ts';
import { readConfig } from './config.ts';
import { readPrivateFile } from './files.ts';
import packageJson from './package.json' with { type: 'json' };

/** The terminal this process runs in: the only place that knows the environment, the clock and the signals. */
export function createTerminal(): Terminal {
  const { env, platform, pid } = process;
  return {
    readConfig: () => readConfig({ env, platform, homeFolder: homedir(), readFile: readPrivateFile }),
    world: {
      platform,
      env,
      hostname: hostname(),
      system: `${platform} ${release()}`,
      now: Date.now,
      elapsedMs: () => performance.now(),
      uptimeSeconds: uptime,
      random: randomBytes,
      readFile: (path) => readFileSync(path, 'utf8'),
      load: (name) => import(name),
    },
    pid,
    say: (line) => void process.stderr.write(`${line}\n`),
    write: (text) => void process.stdout.write(text),
    exit: (code) => void (process.exitCode = code),
    ask: (prompt) => ask(prompt),
    untilAskedToStop: () =>
      new Promise((resolve) => {
        for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve(signal));
      }),
  };
}

function ask(prompt: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stdin.isTTY ? process.stderr : undefined });
  return new Promise((resolve) => {
    lines.once('close', () => resolve(''));
    lines.question(prompt, (line) => {
      resolve(line);
      lines.close();
    });
  });
}

if (import.meta.main) {
  const terminal = createTerminal();
  await new Command('sallyport')
    .description('The daemon of Sallyport: AI models on this desktop, with no provider key on it.')
    .version(packageJson.version)
    .addCommand(runCommand(terminal))
    .addCommand(enrollCommand(terminal))
    .addCommand(statusCommand(terminal))
    .addCommand(appsCommand(terminal))
    .addCommand(rotateCommand(terminal))
    .addCommand(forgetCommand(terminal))
    .parseAsync();
}

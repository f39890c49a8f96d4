import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Candidate, Running } from './candidate.ts';
import { BROKER } from './candidate-broker.ts';
import { NGINX } from './candidate-nginx.ts';
import { PORTKEY } from './candidate-portkey.ts';
import { RAW } from './candidate-raw.ts';
import { watchForOthers } from './disturbance.ts';
import { judge } from './goals.ts';
import { bigBodies, hangUps, slowStreams } from './hardships.ts';
import { describeMachine, inspectMachine, type Machine, moveHere } from './machine.ts';
import { startMock } from './mock.ts';
import { type Options, readOptions } from './options.ts';
import { type Findings, type Memory, writeJson, writeTables } from './report.ts';
import { enter, type Entrant, runRound, WINDOWS } from './rounds.ts';
import { plainSource } from './request-source.ts';
import { freePort } from './start.ts';

// What we add to a request, beside what people would use instead. README.md says how to read it.

const CANDIDATES: readonly Candidate[] = [BROKER, RAW, NGINX, PORTKEY];

// V8 needs tens of thousands of requests before a gateway is as fast as it will be: after one round Portkey and the
// proxy of Node still cost a third more than in the next.
const WARM_UP = { rounds: 2, seconds: 2 };
const MEMORY_ROUNDS = 2;

const options = readOptions(process.argv.slice(2));
if ('help' in options) {
  console.log(options.help);
  process.exit();
}
if ('wrong' in options) stopWith(options.wrong);
if (process.platform !== 'linux') stopWith('The benchmark reads CPU time from /proc: run it on Linux.');

const folder = mkdtempSync(path.join(os.tmpdir(), 'sallyport-bench-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));

const findings = await run(options, inspectMachine());
process.stdout.write(options.json ? writeJson(findings) : writeTables(findings));
const measured = findings.outcomes.filter((outcome) => outcome.measured !== undefined);
const held = measured.length > 0 && measured.every(({ meetsGate }) => meetsGate);
process.exit(options.gate && !held ? 1 : 0);

async function run({ rounds, seconds, only }: Options, machine: Machine): Promise<Findings> {
  const description = describeMachine();
  const remarks = [...machine.remarks];
  const wanted = CANDIDATES.filter(({ name }) => only.length === 0 || only.includes(name));
  const mock = await startMock(machine, folder);
  const running = await startAll(wanted, machine, mock.port, remarks);
  if (machine.cores !== undefined) moveHere(machine.cores.load);

  const direct = await enter('direct', { port: mock.port, source: (ask) => plainSource(ask, mock.port, {}) });
  const idle = new Map(running.map(({ name, process }) => [name, process.residentBytes()]));
  const entrants = await enterAll(running, remarks);

  const othersSince = watchForOthers([mock, ...running.map((candidate) => candidate.process)]);
  progress('warming up');
  for (let round = 0; round < WARM_UP.rounds; round++) {
    await runRound([direct, ...entrants], WINDOWS, round, Math.max(seconds, WARM_UP.seconds));
  }
  for (const entrant of [direct, ...entrants]) entrant.samples.length = 0;
  for (let round = 0; round < rounds; round++) {
    progress(`round ${round + 1} of ${rounds}`);
    await runRound([direct, ...entrants], WINDOWS, round, seconds);
  }
  const memory = new Map<string, Memory>();
  for (const { name, process } of running) {
    memory.set(name, { idle: idle.get(name) ?? 0, after: process.residentBytes() });
  }

  progress('big bodies');
  for (let round = 0; round < WARM_UP.rounds; round++) {
    // Overwritten by the first round that counts.
    await runRound(entrants, [bigBodies], 0, Math.max(seconds, WARM_UP.seconds));
  }
  for (let round = 0; round < rounds; round++) await runRound(entrants, [bigBodies], round, seconds);
  const others = othersSince();
  if (others !== undefined) remarks.push(others);

  progress('slow streams');
  const startFresh = async (name: string): Promise<Running> => {
    const candidate = wanted.find((known) => known.name === name);
    if (candidate === undefined) throw new TypeError(`nobody is called ${name}`);
    return startOne(candidate, machine, mock.port);
  };
  for (let round = 0; round < MEMORY_ROUNDS; round++) {
    await runRound(entrants, [slowStreams(startFresh)], round, seconds);
  }
  progress('hang-ups');
  await runRound(entrants, [hangUps(mock.openStreams)], 0, seconds);

  await Promise.all(running.map(({ process }) => process.stop()));
  mock.stop();
  for (const { name, failed } of [direct, ...entrants])
    if (failed !== undefined) remarks.push(`${name} is left out: ${failed}`);
  const titles = Object.fromEntries(CANDIDATES.map(({ name, title }) => [name, title]));
  const answerBytes = direct.asks.completion.bodyBytes;
  const outcomes = judge(entrants, direct);
  return { machine: description, remarks, titles, answerBytes, direct, entrants, memory, outcomes };
}

async function startAll(
  wanted: readonly Candidate[],
  machine: Machine,
  mockPort: number,
  remarks: string[],
): Promise<Running[]> {
  const started = wanted.map(async (candidate) => {
    const why = candidate.missing(machine);
    if (why !== undefined) throw new Error(why);
    progress(`starting ${candidate.name}`);
    return startOne(candidate, machine, mockPort);
  });
  const results = await Promise.allSettled(started);
  for (const [index, result] of results.entries()) {
    if (result.status === 'rejected') remarks.push(`${wanted[index]?.name} is left out: ${messageOf(result.reason)}`);
  }
  return results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
}

async function startOne({ name, start }: Candidate, machine: Machine, mockPort: number): Promise<Running> {
  return start({ folder: mkdtempSync(path.join(folder, `${name}-`)), port: await freePort(), mockPort, machine });
}

async function enterAll(running: readonly Running[], remarks: string[]): Promise<Entrant[]> {
  const entrants: Entrant[] = [];
  for (const candidate of running) {
    try {
      entrants.push(await enter(candidate.name, candidate));
    } catch (error) {
      remarks.push(`${candidate.name} is left out: ${messageOf(error)}`);
    }
  }
  return entrants;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

function stopWith(line: string): never {
  console.error(line);
  process.exit(2);
}

import { CANDIDATE_NAMES } from './candidate.ts';
import { figures, type Outcome, ratioOf } from './goals.ts';
import type { Standing } from './rounds.ts';
import { spreadOf, type Spread } from './statistics.ts';
import { layOut } from './text-table.ts';

/** Resident memory of a candidate before the first request and after the last, in bytes. */
export type Memory = { idle: number; after: number };

/** Everything one run found out. */
export type Findings = {
  machine: string;
  remarks: readonly string[];
  titles: Readonly<Record<string, string>>;
  answerBytes: number;
  direct: Standing;
  entrants: readonly Standing[];
  memory: ReadonlyMap<string, Memory>;
  outcomes: readonly Outcome[];
};

/** The findings as tables. */
export function writeTables(findings: Findings): string {
  const { machine, remarks, direct, outcomes, answerBytes } = findings;
  const baseline = spreadOf(figures(direct, 'oneP50Us', direct));
  const parts = [
    [machine, ...remarks.map((remark) => `note: ${remark}`)].join('\n'),
    `One request: 1 KB of JSON in, ${answerBytes} bytes out; the mock alone answers in ` +
      `${whole(baseline)} µs. CPU and throughput at 16 connections, added latency at one.`,
    requestTable(findings),
    'Streams of server-sent events, 16 at a time: an event each millisecond, or all at once.',
    streamTable(findings),
    'Bodies of 1 MB, four at a time; memory with 500 slow streams; then 12 bursts of 32 clients that hang up.',
    hardshipTable(findings),
    'Goals: the median of the rounds, or of their ratios. A gate must hold on any machine; the target is what we claim.',
    goalTable(outcomes),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** The findings for a program to read. */
export function writeJson({ machine, remarks, direct, entrants, memory, outcomes }: Findings): string {
  const all = [direct, ...entrants].map(({ name, failed, samples }) => {
    return { name, failed, samples, memory: memory.get(name) };
  });
  return `${JSON.stringify({ machine, remarks, entrants: all, goals: outcomes }, null, 2)}\n`;
}

function requestTable({ titles, direct, entrants, memory }: Findings): string {
  const head = [
    '',
    'µs CPU/request',
    'requests/CPU-s',
    'Portkey : it',
    '+p50 µs',
    '+p99 µs',
    'requests/s',
    'p50/p99 µs',
  ];
  const portkey = entrants.find(({ name, failed }) => name === 'portkey' && failed === undefined);
  const rows = finished(entrants).map((entrant) => {
    const spread = (figure: Parameters<typeof figures>[1]): Spread | undefined =>
      spreadOf(figures(entrant, figure, direct));
    const cpu = spread('cpuUs');
    const rss = memory.get(entrant.name);
    return [
      titles[entrant.name] ?? entrant.name,
      range(cpu, 1),
      cpu === undefined ? '-' : (1e6 / cpu.median).toFixed(0),
      ratioOf(portkey, entrant, 'cpuUs', direct)?.median.toFixed(1) ?? '-',
      whole(spread('added oneP50Us')),
      whole(spread('added oneP99Us')),
      whole(spread('requestsPerSecond')),
      `${whole(spread('manyP50Us'))}/${whole(spread('manyP99Us'))}`,
      percent(spread('busy')),
      rss === undefined ? '-' : `${megabytes(rss.idle)}/${megabytes(rss.after)}`,
    ];
  });
  return layOut([[...head, 'core busy', 'RSS idle/after MB'], ...rows]);
}

function streamTable({ titles, direct, entrants }: Findings): string {
  const head = ['', 'µs CPU/event, paced', 'µs CPU/event, burst', 'µs CPU/stream of 50', 'first event +p50 µs'];
  const rows = finished(entrants).map((entrant) => [
    titles[entrant.name] ?? entrant.name,
    range(spreadOf(figures(entrant, 'eventUs', direct)), 1),
    range(spreadOf(figures(entrant, 'burstEventUs', direct)), 2),
    range(spreadOf(figures(entrant, 'stream50Us', direct)), 0),
    whole(spreadOf(figures(entrant, 'added firstEventP50Us', direct))),
  ]);
  return layOut([head, ...rows]);
}

function hardshipTable({ titles, direct, entrants }: Findings): string {
  const head = [
    '',
    'µs CPU/request of 1 MB',
    'RSS warm MB',
    'with 500 streams',
    'KB/stream',
    'crashes',
    'wedged',
    'left running',
  ];
  const rows = finished(entrants).map((entrant) => {
    const spread = (figure: Parameters<typeof figures>[1]): Spread | undefined =>
      spreadOf(figures(entrant, figure, direct));
    return [
      titles[entrant.name] ?? entrant.name,
      range(spread('bigBodyUs'), 0),
      whole(spread('warmMb')),
      whole(spread('slowMb')),
      whole(spread('slowStreamKb')),
      whole(spread('crashes')),
      whole(spread('wedged')),
      whole(spread('leftRunning')),
    ];
  });
  return layOut([head, ...rows]);
}

function goalTable(outcomes: readonly Outcome[]): string {
  const rows = outcomes.map(({ id, says, to, measured, wanted, gate, target, meetsGate, meetsTarget }) => {
    const sign = wanted === 'at least' ? '>=' : '<=';
    const verdicts = measured === undefined ? ['-', '-'] : [meetsGate ? 'ok' : 'MISSED', meetsTarget ? 'ok' : 'missed'];
    const found = measured === undefined ? 'not measured' : range(measured, to === undefined ? 0 : 2);
    return [
      `${id.padEnd(3)} ${says}`,
      found,
      `${sign} ${gate}`,
      verdicts[0] ?? '',
      `${sign} ${target}`,
      verdicts[1] ?? '',
    ];
  });
  return layOut([['', 'measured', 'gate', '', 'target', ''], ...rows]);
}

function finished(entrants: readonly Standing[]): Standing[] {
  const order: readonly string[] = CANDIDATE_NAMES;
  return entrants
    .filter(({ failed }) => failed === undefined)
    .toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
}

function range(spread: Spread | undefined, digits: number): string {
  if (spread === undefined) return '-';
  const [median, min, max] = [spread.median, spread.min, spread.max].map((value) => value.toFixed(digits));
  return `${median} (${min}..${max})`;
}

function whole(spread: Spread | undefined): string {
  return spread?.median.toFixed(0) ?? '-';
}

function percent(spread: Spread | undefined): string {
  return spread === undefined ? '-' : `${Math.round(spread.median * 100)} %`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}

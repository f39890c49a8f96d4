import assert from 'node:assert/strict';
import { judge } from './goals.ts';
import { type Findings, writeJson, writeTables } from './report.ts';
import type { Sample, Standing } from './rounds.ts';

const BROKER: Partial<Sample> = {
  bigBodyUs: 2000,
  warmMb: 150.4,
  slowMb: 180.2,
  slowStreamKb: 59.6,
  crashes: 0,
  wedged: 0,
  leftRunning: 7,
};

describe('the report', () => {
  it('shows what a megabyte, slow streams and hang-ups did to a candidate', () => {
    const line = lineOf(writeTables(findings()), 'The broker', 2);
    assert.deepEqual(line, ['The broker', '2000 (2000..2000)', '150', '180', '60', '0', '0', '7']);
  });

  it('shows a ratio with its digits and a plain figure without', () => {
    const tables = writeTables(findings());
    const ratio = lineOf(tables, 'G20 CPU of a 1 MB body, Portkey : broker');
    assert.deepEqual(ratio.slice(1), ['5.25 (5.25..5.25)', '>= 3', 'ok', '>= 5', 'ok']);
    const plain = lineOf(tables, 'G13 KB of a slow stream, broker');
    assert.deepEqual(plain.slice(1), ['60 (60..60)', '<= 80', 'ok', '<= 56', 'missed']);
    assert.equal(lineOf(tables, 'G2  CPU, broker : raw Node proxy')[2], 'not measured');
  });

  it('gives a program the same figures', () => {
    const { entrants, goals } = JSON.parse(writeJson(findings()));
    assert.deepEqual(entrants[1].samples, [BROKER]);
    const { measured, meetsGate } = goals.find(({ figure }: { figure: string }) => figure === 'slowStreamKb');
    assert.deepEqual([measured.median, meetsGate], [59.6, true]);
  });
});

function findings(): Findings {
  const direct = standing('direct', {});
  const entrants = [standing('broker', BROKER), standing('portkey', { bigBodyUs: 10_500 })];
  const titles = { broker: 'The broker', portkey: 'Portkey' };
  const outcomes = judge(entrants, direct);
  return { machine: 'a machine', remarks: [], titles, answerBytes: 555, direct, entrants, memory: new Map(), outcomes };
}

function standing(name: string, sample: Partial<Sample>): Standing {
  return { name, samples: [sample], failed: undefined };
}

function lineOf(tables: string, start: string, skipped = 0): string[] {
  const line = tables.split('\n').filter((text) => text.startsWith(start))[skipped];
  assert(line !== undefined);
  return line.trim().split(/\s{2,}/);
}

import assert from 'node:assert/strict';
import { isDue } from './jobs.ts';

const DAY_MS = 86_400_000;
const MADE = '2026-01-01T00:00:00.000Z';
const after = (days: number) => Date.parse(MADE) + days * DAY_MS;

describe('a new key', () => {
  it('is due after thirty days at the earliest, and after thirty-five for everyone', () => {
    const devices = Array.from({ length: 1000 }, (_, i) => `inst_${i}`);
    const dueAfter = (days: number) => devices.filter((id) => isDue(MADE, id, after(days))).length;
    assert.deepEqual([dueAfter(29.99), dueAfter(35)], [0, 1000]);
    // Spread, so that a fleet that was enrolled in one hour does not come back in one hour.
    assert.ok(Math.abs(dueAfter(32.5) - 500) < 100, String(dueAfter(32.5)));
  });

  it('is due at the same time for the same device, however often it is asked', () => {
    const days = Array.from({ length: 400 }, (_, i) => 30 + i / 80).find((day) => isDue(MADE, 'inst_1', after(day)))!;
    assert.ok(!isDue(MADE, 'inst_1', after(days - 0.02)) && isDue(MADE, 'inst_1', after(days + 0.02)));
  });
});

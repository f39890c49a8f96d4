import os from 'node:os';
import { cpuNsOf } from './process-group.ts';

const NS_PER_MS = 1_000_000;
const WORTH_SAYING = 0.05;

/**
 * Watches for programs that run beside the benchmark: they empty the caches and take the cores, and nothing else in the
 * figures says so. Called at the end, the result is a line to print, or undefined when the machine was quiet.
 */
export function watchForOthers(ours: readonly { cpuNs: () => number }[]): () => string | undefined {
  const ownMs = (): number => ours.reduce((sum, one) => sum + one.cpuNs(), cpuNsOf(process.pid)) / NS_PER_MS;
  const [began, ownBefore, allBefore] = [performance.now(), ownMs(), busyMs()];
  return () => {
    const share = (busyMs() - allBefore - (ownMs() - ownBefore)) / (performance.now() - began);
    if (share < WORTH_SAYING) return undefined;
    const percent = Math.round(share * 100);
    return `other programs used ${percent} % of a core meanwhile: read no figure without its extremes, or repeat`;
  };
}

// User, nice, system and interrupts of all cores; Linux counts in hundredths of a second, which is fine over minutes.
function busyMs(): number {
  return os.cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
}

import { createHash } from 'node:crypto';

const LINUX_BOOT_ID = '/proc/sys/kernel/random/boot_id';

// Where only the time of the boot is known, it moves a little whenever the clock is corrected.
const COARSE_MS = 600_000;

type Machine = {
  installId: string;
  platform: string;
  readFile: (path: string) => string;
  now: () => number;
  uptimeSeconds: () => number;
};

/**
 * Tells one run of a machine from another, for a broker that looks for copies of a key. Hashed with the installation, so
 * that nobody can tell by it which machine this is.
 */
export function bootIdOf({ installId, platform, readFile, now, uptimeSeconds }: Machine): string {
  const boot =
    platform === 'linux'
      ? readFile(LINUX_BOOT_ID).trim()
      : String(Math.round((now() - uptimeSeconds() * 1000) / COARSE_MS));
  return createHash('sha256').update(`sallyport/boot/v1 ${installId} ${boot}`).digest('base64url').slice(0, 22);
}

import { Secret } from '@sallyport/protocol/secret.ts';
import { openDatabase, type Database, type Place, type Transaction } from './database.ts';

/** A device and its key: two rows of two tables, which belong together. */
export async function enrol(tx: Transaction, id: string, more: { secret_sealed?: string } = {}): Promise<void> {
  const device = { id, name: `the desktop ${id}`, os: 'linux', install_id: `install-${id}`, email: null };
  const nothingYet = { confirmed_at: 2, rotate_asked_at: null, revoked_at: null, revoked_because: null };
  await tx
    .insertInto('devices')
    .values({ ...device, ...nothingYet, products: '["playground"]', created_at: 1 })
    .execute();
  await addKey(tx, { device: id, keyid: `spk_${id}`, ...more });
}

/** One more key of a device. */
export async function addKey(
  tx: Transaction,
  {
    device,
    keyid,
    epoch = 0,
    secret_sealed = 'sp1.k.d.n.c',
  }: { device: string; keyid: string; epoch?: number; secret_sealed?: string },
): Promise<void> {
  const key = { keyid, device_id: device, algorithm: 'hmac-sha256', secret_sealed, public_key: null } as const;
  const life = { state: 'active', epoch, created_at: 1, first_used_at: 2, not_after: null } as const;
  await tx
    .insertInto('device_keys')
    .values({ ...key, ...life, daemon_key: `daemon-${keyid}`, broker_key: null })
    .execute();
}

/** The place as arguments of a program, and back. */
export const asArguments = (place: Place) => [place.kind, place.kind === 'sqlite' ? place.file : place.url.reveal()];

/** The place that the arguments of a program name. */
export function placeFrom([kind, where]: readonly string[]): Place {
  return kind === 'sqlite' ? { kind, file: where! } : { kind: 'postgres', url: new Secret(where!) };
}

// Run as a program it writes as fast as it can, and tells of each commit once it has resolved. When it can no longer, it
// tells why, and how many devices it can still read.
if (import.meta.main) {
  const [prefix = '', ...place] = process.argv.slice(2);
  await openDatabase(placeFrom(place), () => {}).then(
    (database) => writeOn(database, prefix),
    (error: Error) => tell(error.message),
  );
}

async function writeOn(database: Database, prefix: string): Promise<void> {
  for (let n = 1; ; n++) {
    try {
      await database.write((tx) => enrol(tx, `${prefix}-${n}`));
      process.stdout.write(`${n}\n`);
    } catch (error) {
      const still = database.read.selectFrom('devices').select('id').execute();
      return tell({
        code: (error as { code: unknown }).code,
        readable: await still.then((rows) => rows.length, String),
      });
    }
  }
}

function tell(what: unknown): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

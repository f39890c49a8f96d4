import { OPERATOR_CHAIN } from '../audit/audit-log.ts';
import type { Config } from '../config/config.ts';
import { openRecords, type Records } from '../control/records.ts';
import { openStore } from '../store/open-store.ts';
import { reporting } from './reporting.ts';
import type { Terminal } from './terminal.ts';

/** The option that every command has which reads the configuration. */
export const CONFIG_OPTION = [
  '--config <file>',
  'the configuration (default: $SALLYPORT_CONFIG, else ./sallyport.yaml)',
] as const;

/** Does something with the records of this configuration, beside a running broker or without one. */
export async function withRecords(
  terminal: Terminal,
  options: { config?: string },
  act: (records: Records, config: Config) => Promise<void>,
): Promise<void> {
  await reporting(terminal, options, async (config) => {
    const database = await openStore(config, terminal);
    try {
      await act(await openRecords({ config, database, chain: OPERATOR_CHAIN, now: terminal.now }), config);
    } finally {
      await database.close();
    }
  });
}

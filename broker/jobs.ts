import { schedule } from 'node-cron';
import type { CheckpointWriter } from './audit/checkpoint-writer.ts';
import { retireKeys, sweepUnheard } from './control/devices.ts';
import { forgetInvites } from './control/invites.ts';
import type { Records } from './control/records.ts';
import type { Logger } from './log/logger.ts';

type Settings = { records: Records; checkpoints: CheckpointWriter; log: Logger };

/**
 * The table of scheduled work. No request depends on any of it: what is over is refused by its time, swept or not. Every
 * instance does all of it; each piece of work can be done twice at once.
 */
export function startJobs(settings: Settings): { stop: () => Promise<void> } {
  const { records, checkpoints, log } = settings;
  // prettier-ignore
  const tasks = [
    //   second, minute, hour …  what
    plan('*/10 *  * * * *',      'put new audit entries into the log',      () => records.audit.announce(records.database, log)),
    plan('5    *  * * * *',      'sign how far the audit log has come',     () => checkpoints.write()),
    plan('20   *  * * * *',      'sweep devices that were never heard',     () => sweepUnheard(records)),
    plan('35   *  * * * *',      'retire keys that were replaced',          () => retireKeys(records)),
    plan('50   17 * * * *',      'forget invitations that ended long ago',  () => forgetInvites(records)),
  ];

  function plan(when: string, what: string, act: () => Promise<unknown>) {
    const running = new Set<Promise<void>>();
    const run = () => {
      const done = act().then(
        () => undefined,
        (cause: unknown) => log.error({ cause }, `could not ${what}`),
      );
      running.add(done);
      return done.finally(() => running.delete(done));
    };
    const task = schedule(when, run, { name: what, noOverlap: true });
    return { task, running };
  }

  return {
    async stop() {
      await Promise.all(tasks.map(({ task }) => task.destroy()));
      await Promise.all(tasks.flatMap(({ running }) => [...running]));
    },
  };
}

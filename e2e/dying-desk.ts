import { startDaemon } from './desk.ts';

// A desktop's program that kills itself, with the signal that nobody can catch, at one step of what it was asked to do.
const [folder, verb, url, code, killAt] = process.argv.slice(2) as [string, string, string, string, string];

let steps = 0;
const identity = startDaemon({
  folder,
  atStep() {
    if (++steps === Number(killAt)) process.kill(process.pid, 'SIGKILL');
  },
});
if (verb === 'enrol') await identity.enrol({ url, code });
else await identity.rotate();

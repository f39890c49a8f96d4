// Runs before every npm script, on whatever Node is there, so it is plain JavaScript. It installs what is missing
// and does nothing (a few milliseconds) when nothing is.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
const mark = join(modules, '.sallyport-installed');
// The platform is part of it: a folder shared with a container holds the other system's Node.
const wanted = createHash('sha256')
  .update(readFileSync(join(root, 'package-lock.json')))
  .update(`${process.platform} ${process.arch}`)
  .digest('hex');

if (existsSync(mark) && readFileSync(mark, 'utf8') === wanted) process.exit(0);

const began = Date.now();
const seconds = () => Math.round((Date.now() - began) / 1000);
const packages = Object.keys(JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages).length;
console.error(`Installing ${packages} packages, and the Node this is built on (once; usually 10 to 30 s)…`);
const ticker = setInterval(() => console.error(`  … ${seconds()} s`), 5000);

// npm names its own script in npm_execpath; without it this was started by hand, and npm is on the path.
const npm = process.env.npm_execpath;
const [command, before] = npm === undefined ? ['npm', []] : [process.execPath, [npm]];
const install = spawn(command, [...before, 'ci'], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
install.on('exit', (code) => {
  clearInterval(ticker);
  if (code !== 0) {
    console.error(
      '\nThe packages could not be installed. Check the network and the free disk space (400 MB), then run it again.',
    );
    process.exit(1);
  }
  const pinned = join(modules, '.bin', process.platform === 'win32' ? 'node.cmd' : 'node');
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (!existsSync(pinned) && (major < 24 || (major === 24 && minor < 7))) {
    console.error(
      `There is no pinned Node for ${process.platform} ${process.arch}, and the one on the path is ${process.versions.node}. ` +
        'Install Node 24.7 or newer from nodejs.org, then run it again.',
    );
    process.exit(1);
  }
  writeFileSync(mark, wanted);
  console.error(`Installed in ${seconds()} s.\n`);
});

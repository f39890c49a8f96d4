import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

// The floors of the broker, from the ground up. A file imports from its own folder and from floors below, never from its
// neighbours on the same floor and never upwards; an import of types counts like any other.
const FLOORS = [
  ['outbound', 'log', 'config'],
  ['store'],
  ['dialects', 'providers', 'google', 'ledger', 'audit'],
  ['edge', 'auth', 'policy', 'limits', 'relay'],
  ['api', 'control'],
  ['jobs.ts'],
  ['call.ts'],
  ['app.ts', 'identities.ts'],
  ['broker.ts'],
  ['commands'],
  ['main.ts'],
];

const files = (pattern: string) =>
  globSync(pattern, { exclude: ['**/node_modules'] }).filter((file) => !file.endsWith('.test.ts'));

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const found = text.matchAll(/^(?:import|export)\b[^;]*?from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm);
  return Array.from(found, ([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? '');
}

/** The room of a path inside the broker: its folder, or the file itself where it stands at the top. */
function roomOf(path: string): string {
  return path.split('/')[1] ?? '';
}

function floorOf(room: string): number {
  return FLOORS.findIndex((rooms) => rooms.includes(room));
}

describe('the house', () => {
  const broker = files('broker/**/*.ts');

  it('has every file of the broker on a floor', () => {
    assert.ok(broker.length > 40);
    for (const file of broker) assert.notEqual(floorOf(roomOf(file)), -1, `${file} stands on no floor`);
  });

  it('lets imports in the broker go down only', () => {
    let counted = 0;
    for (const file of broker) {
      for (const path of importsOf(file).filter((name) => name.startsWith('.'))) {
        const target = normalize(join(dirname(file), path));
        if (target === 'broker/package.json') continue;
        assert.match(target, /^broker\//, `${file} reaches outside the broker: ${path}`);
        const [from, to] = [roomOf(file), roomOf(target)];
        if (from !== to) assert.ok(floorOf(to) < floorOf(from), `${file} imports ${target}, which is not below it`);
        counted++;
      }
    }
    assert.ok(counted > 100, 'the imports were found');
  });

  it('keeps the stages from knowing the call that they work on', () => {
    for (const file of broker.filter((name) => floorOf(roomOf(name)) < floorOf('call.ts'))) {
      assert.ok(!importsOf(file).some((path) => path.endsWith('/call.ts')), file);
    }
  });

  it('builds the ground floor of Node and one parser alone', () => {
    for (const file of files('protocol/**/*.ts')) {
      for (const path of importsOf(file)) assert.match(path, /^(?:node:|\.\/|structured-headers$)/, `${file}: ${path}`);
    }
  });

  it('lets the two programs know of each other by the protocol alone', () => {
    const daemon = files('daemon/**/*.ts').filter((name) => !name.endsWith('.test-support.ts'));
    assert.ok(daemon.length > 20);
    for (const file of daemon) {
      for (const path of importsOf(file)) {
        if (!path.startsWith('.'))
          assert.match(
            path,
            /^(?:node:|@sallyport\/protocol\/|commander$|node-cron$|@napi-rs\/keyring$|keytar$)/,
            `${file}: ${path}`,
          );
        else
          assert.match(
            normalize(join(dirname(file), path)),
            /^daemon\//,
            `${file} reaches outside the daemon: ${path}`,
          );
      }
    }
    for (const file of broker) for (const path of importsOf(file)) assert.ok(!path.includes('daemon/'), file);
  });

  it('names every import by its exact file', () => {
    for (const file of [...broker, ...files('protocol/**/*.ts'), ...files('*.ts')]) {
      for (const path of importsOf(file).filter((name) => /^(?:\.|@sallyport)/.test(name))) {
        assert.match(path, /\.(?:ts|json)$/, `${file}: ${path}`);
      }
    }
  });

  it('has no room for leftovers', () => {
    const leftovers = /(?:^|\/)(?:utils?|helpers?|common|shared|misc|index)(?:\.ts|\/)/;
    for (const file of files('{broker,daemon,protocol,e2e,bench}/**/*.ts')) {
      assert.doesNotMatch(file, leftovers);
    }
  });
});

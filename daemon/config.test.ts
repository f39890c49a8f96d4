import assert from 'node:assert/strict';
import { ConfigError, homeOf, isOrigin, readConfig, type Environment } from './config.ts';

const read = (text?: string, env: Environment = {}, platform: NodeJS.Platform = 'linux') =>
  readConfig({ env, platform, homeFolder: '/home/one', readFile: () => text });

function mistakesIn(text?: string, env: Environment = {}): string[] {
  try {
    read(text, env);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.message.split('\n');
  }
  return [];
}

describe('the settings of the daemon', () => {
  it('need no file, and have a default each', () => {
    assert.deepEqual(read(), {
      home: '/home/one/.local/share/sallyport',
      port: 8787,
      keychain: undefined,
      insecureKeyFile: false,
      origins: [],
      proxy: false,
      extraCaFiles: [],
      systemCas: false,
    });
  });

  it('are those of the file, and a variable beats it', () => {
    const file = JSON.stringify({
      port: 9000,
      origins: ['https://app.example.com', 'http://localhost:3000'],
      proxy: true,
      extra_ca_files: ['/etc/ca.pem'],
      system_cas: true,
    });
    const { port, origins, proxy, extraCaFiles, systemCas } = read(file);
    assert.deepEqual([port, origins.length, proxy, extraCaFiles, systemCas], [9000, 2, true, ['/etc/ca.pem'], true]);
    const env = { SALLYPORT_PORT: '9001', SALLYPORT_KEYCHAIN: 'file', SALLYPORT_INSECURE_KEY_FILE: 'true' };
    const beaten = read(file, env);
    assert.deepEqual([beaten.port, beaten.keychain, beaten.insecureKeyFile], [9001, 'file', true]);
  });

  for (const [platform, env, home] of [
    ['linux', { XDG_DATA_HOME: '/x' }, '/x/sallyport'],
    ['darwin', {}, '/home/one/Library/Application Support/Sallyport'],
    ['win32', { LOCALAPPDATA: 'C:\\Local' }, 'C:\\Local\\Sallyport'],
    ['win32', { SALLYPORT_HOME: 'D:\\s' }, 'D:\\s'],
    ['linux', { SALLYPORT_HOME: '/s', XDG_DATA_HOME: '/x' }, '/s'],
  ] as const) {
    it(`are kept in ${home} on ${platform} with ${JSON.stringify(env)}`, () =>
      assert.equal(homeOf({ env, platform, homeFolder: '/home/one' }), home));
  }

  for (const [what, text, env, says] of [
    ['no JSON', '{', {}, /this is not JSON/],
    ['a list', '[]', {}, /one JSON object/],
    ['a misspelt setting', '{"prot":1}', {}, /there is no setting "prot"/],
    ['a port of words', '{"port":"http"}', {}, /port must be a whole number/],
    ['an origin with a path', '{"origins":["https://a.example/x"]}', {}, /origins must be a list of origins/],
    ['a variable with no port', '{}', { SALLYPORT_PORT: '0' }, /SALLYPORT_PORT must be/],
    ['a keychain there is not', '{}', { SALLYPORT_KEYCHAIN: 'safe' }, /one of keytar, napi-keyring, file/],
    ['a lifted check of certificates', '{}', { NODE_TLS_REJECT_UNAUTHORIZED: '0' }, /could pass for the broker/],
    ['code of others', '{}', { NODE_OPTIONS: '--require /tmp/x.js' }, /loads code into this program/],
    ['a debugger', '{}', { NODE_OPTIONS: '--max-old-space-size=100 --inspect' }, /loads code into this program/],
  ] as const) {
    it(`refuse ${what}`, () => {
      const mistakes = mistakesIn(text, env);
      assert.equal(mistakes.length, 1);
      assert.match(mistakes[0]!, says);
    });
  }

  it('tell every mistake at once', () =>
    assert.equal(mistakesIn('{"port":0,"x":1,"proxy":"yes"}', { SALLYPORT_KEYCHAIN: 'x' }).length, 4));

  it('take harmless options of Node', () =>
    assert.deepEqual(
      mistakesIn('{}', { NODE_OPTIONS: '--max-old-space-size=100', NODE_TLS_REJECT_UNAUTHORIZED: '1' }),
      [],
    ));
});

describe('an origin', () => {
  for (const [text, isOne] of [
    ['https://app.example.com', true],
    ['https://app.example.com:8443', true],
    ['http://localhost:3000', true],
    ['http://127.0.0.1', true],
    ['http://app.example.com', false],
    ['https://app.example.com/', false],
    ['https://APP.example.com', false],
    ['https://app.example.com:443', false],
    ['null', false],
    ['*', false],
    ['file://', false],
    ['', false],
  ] as const) {
    it(`is ${isOne ? '' : 'not '}${JSON.stringify(text)}`, () => assert.equal(isOrigin(text), isOne));
  }
});

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppsError, openApps } from './apps.ts';
import { DoorError } from './door-errors.ts';

describe('the apps of this machine', () => {
  let folder: string;
  let file: string;
  let nowMs = 1_800_000_000_000;
  const open = () => openApps({ file, now: () => nowMs, random: randomBytes });
  const bearer = (token: string) => ['Authorization', `Bearer ${token}`];
  const refused = (code: string) => (error: unknown) => error instanceof DoorError && error.code === code;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-apps-'));
    file = join(folder, 'apps.json');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('are known by a token that is shown once and kept as its hash', () => {
    const apps = open();
    const token = apps.add('editor');
    assert.match(token, /^spl_[A-Za-z0-9_-]{43}$/);
    assert.deepEqual(apps.whoseToken(bearer(token)), { name: 'editor', createdAt: '2027-01-15T08:00:00.000Z' });
    const kept = readFileSync(file, 'utf8');
    assert.ok(!kept.includes(token) && !kept.includes(token.slice(4)));
    assert.doesNotMatch(JSON.stringify(apps.list()), /sha256/);
    assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  it('are the same after a restart', () => {
    const token = open().add('editor');
    assert.equal(open().whoseToken(bearer(token)).name, 'editor');
  });

  const PLACES: [what: string, headers: (token: string) => string[]][] = [
    ['as a Bearer', bearer],
    ['as a bearer in small letters', (token) => ['authorization', `bearer ${token}`]],
    ['as OpenAI’s key on Azure', (token) => ['api-key', token]],
    ['as Anthropic’s key', (token) => ['X-Api-Key', token]],
    ['as Google’s key', (token) => ['x-goog-api-key', token]],
    ['in two headers', (token) => ['x-api-key', token, 'Authorization', `Bearer ${token}`]],
    ['beside a key of somebody else', (token) => ['x-api-key', token, 'Authorization', 'Bearer sk-other']],
  ];
  for (const [what, headers] of PLACES) {
    it(`bring it where client libraries put a key: ${what}`, () => {
      const apps = open();
      assert.equal(apps.whoseToken(headers(apps.add('editor'))).name, 'editor');
    });
  }

  const MISSING: [what: string, headers: (token: string) => string[]][] = [
    ['nothing', () => []],
    ['a key of somebody else', () => ['Authorization', 'Bearer sk-other']],
    ['the token in a header of no meaning', (token) => ['x-token', token]],
    ['the token as a cookie', (token) => ['cookie', `token=${token}`]],
    ['the token as a password', (token) => ['Authorization', `Basic ${Buffer.from(`a:${token}`).toString('base64')}`]],
    ['an empty Bearer', () => ['Authorization', 'Bearer ']],
  ];
  for (const [what, headers] of MISSING) {
    it(`are told how to get one when they bring ${what}`, () => {
      const apps = open();
      const token = apps.add('editor');
      assert.throws(
        () => apps.whoseToken(headers(token)),
        (error) => refused('token_missing')(error) && (error as Error).message.includes('sallyport apps add NAME'),
      );
    });
  }

  const UNKNOWN: [what: string, headers: (token: string) => string[]][] = [
    ['another token', () => bearer(`spl_${randomBytes(32).toString('base64url')}`)],
    ['the beginning of the token', (token) => bearer(token.slice(0, -1))],
    ['the token and a letter more', (token) => bearer(`${token}A`)],
    ['the token with another last letter', (token) => bearer(token.slice(0, -1) + (token.endsWith('A') ? 'E' : 'A'))],
    ['the token in capitals', (token) => bearer(`spl_${token.slice(4).toUpperCase()}x`)],
    ['the prefix alone', () => bearer('spl_')],
    ['two different tokens', (token) => [...bearer(token), 'x-api-key', 'spl_other']],
  ];
  for (const [what, headers] of UNKNOWN) {
    it(`are refused with ${what}`, () => {
      const apps = open();
      const token = apps.add('editor');
      assert.throws(() => apps.whoseToken(headers(token)), refused('token_unknown'));
    });
  }

  it('are refused once their time is over, to the millisecond, and make room for the next of their name', () => {
    const apps = open();
    const token = apps.add('shell 1', { lifetimeSeconds: 60 });
    nowMs += 59_999;
    assert.equal(apps.whoseToken(bearer(token)).name, 'shell 1');
    nowMs += 1;
    assert.throws(() => apps.whoseToken(bearer(token)), refused('token_unknown'));
    const next = apps.add('shell 1');
    assert.equal(apps.whoseToken(bearer(next)).name, 'shell 1');
    assert.throws(() => apps.whoseToken(bearer(token)), refused('token_unknown'));
    assert.equal(apps.list().length, 1);
  });

  it('are refused once they are removed, after a restart too', () => {
    const apps = open();
    const [token, other] = [apps.add('editor'), apps.add('script')];
    assert.equal(apps.remove('editor'), true);
    assert.equal(apps.remove('editor'), false);
    for (const each of [apps, open()]) {
      assert.throws(() => each.whoseToken(bearer(token)), refused('token_unknown'));
      assert.equal(each.whoseToken(bearer(other)).name, 'script');
    }
  });

  for (const name of ['', ' a', '-a', 'a\n', 'a"b', 'ä', 'a'.repeat(65), '../x']) {
    it(`have names that can stand in a header: not ${JSON.stringify(name)}`, () => {
      assert.throws(() => open().add(name), AppsError);
    });
  }

  it('have each a name of their own', () => {
    const apps = open();
    apps.add('editor');
    assert.throws(() => apps.add('editor'), /There is an app editor already/);
  });

  it('are so many and no more', () => {
    const entry = (index: number) => ({ name: `a${index}`, createdAt: '', sha256: randomBytes(32).toString('hex') });
    writeFileSync(file, JSON.stringify({ apps: Array.from({ length: 500 }, (_, index) => entry(index)) }), {
      mode: 0o600,
    });
    const apps = open();
    assert.throws(() => apps.add('one more'), /There are 500 apps already/);
    apps.remove('a7');
    assert.match(apps.add('one more'), /^spl_/);
  });

  for (const text of [
    '',
    '{',
    '[]',
    '{"apps":{}}',
    '{"apps":[{"name":"a","createdAt":"","sha256":"00"}]}',
    '{"apps":[null]}',
  ]) {
    it(`are not forgotten in silence when their file says ${JSON.stringify(text)}`, () => {
      writeFileSync(file, text, { mode: 0o600 });
      assert.throws(open, (error) => error instanceof AppsError && error.message.includes(file));
    });
  }
});

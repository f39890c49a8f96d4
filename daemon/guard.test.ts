import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { converse, openDoorWorld, CHAT, type DoorWorld } from './door.test-support.ts';
import { openGuard } from './guard.ts';
import { DoorError } from './door-errors.ts';

describe('the guard of the door', () => {
  let world: DoorWorld;
  before(async () => void (world = await openDoorWorld()));
  after(() => world.close());
  beforeEach(() => (world.arrived.length = 0));

  // How a request reaches each event that a server emits, with its Host lines and whatever else.
  const EVENTS: [event: string, write: (lines: string[]) => string, whenHeard: number][] = [
    ['request', (lines) => chat(lines), 200],
    ['checkContinue', (lines) => chat([...lines, 'Expect: 100-continue']), 200],
    ['checkExpectation', (lines) => chat([...lines, 'Expect: a-miracle']), 417],
    ['upgrade', (lines) => chat([...lines, 'Connection: Upgrade', 'Upgrade: websocket']), 400],
    ['connect', (lines) => head('CONNECT broker.example.com:443', lines), 400],
  ];

  function head(line: string, lines: string[]): string {
    return `${[`${line} HTTP/1.1`, ...lines, `Authorization: Bearer ${world.token}`].join('\r\n')}\r\n\r\n`;
  }
  function chat(lines: string[], line = 'POST /v1/chat/completions'): string {
    const rest = ['Content-Type: application/json', `Content-Length: ${CHAT.length}`];
    const closing = lines.some((value) => value.startsWith('Connection:')) ? [] : ['Connection: close'];
    return head(line, [...lines, ...rest, ...closing]) + CHAT;
  }
  const statusOf = (said: string) => Number(/^(?:HTTP\/1\.1 100 [^]*?\r\n\r\n)?HTTP\/1\.1 (\d{3}) /.exec(said)?.[1]);
  const say = async (bytes: string) => {
    const said = await converse(world.port, bytes, { silenceMs: 400 });
    return { status: statusOf(said), said };
  };

  const HOSTS: [what: string, hosts: (port: number) => string[]][] = [
    ['none', () => []],
    ['an empty one', () => ['']],
    ['two that are right', (port) => [`127.0.0.1:${port}`, `127.0.0.1:${port}`]],
    ['a right one and another', (port) => [`127.0.0.1:${port}`, 'evil.example']],
    ['another and a right one', (port) => ['evil.example', `127.0.0.1:${port}`]],
    ['another name', () => ['evil.example']],
    ['another name with our port', (port) => [`evil.example:${port}`]],
    ['our address without the port', () => ['127.0.0.1']],
    ['our name without the port', () => ['localhost']],
    ['our address with another port', (port) => [`127.0.0.1:${port + 1}`]],
    ['our address with the port of http', () => ['127.0.0.1:80']],
    ['our address with an empty port', () => ['127.0.0.1:']],
    ['our port with a nought in front', (port) => [`127.0.0.1:0${port}`]],
    ['a dot behind the name', (port) => [`localhost.:${port}`]],
    ['a dot behind the address', (port) => [`127.0.0.1.:${port}`]],
    ['the address of every interface', (port) => [`0.0.0.0:${port}`]],
    ['the same in short', (port) => [`0:${port}`]],
    ['the same of IPv6', (port) => [`[::]:${port}`]],
    ['the address in short', (port) => [`127.1:${port}`]],
    ['the address as one number', (port) => [`2130706433:${port}`]],
    ['the address in hexadecimal', (port) => [`0x7f000001:${port}`]],
    ['the address in octal', (port) => [`0177.0.0.1:${port}`]],
    ['another loopback address', (port) => [`127.0.0.2:${port}`]],
    ['the address mapped into IPv6', (port) => [`[::ffff:127.0.0.1]:${port}`]],
    ['the IPv6 address written out', (port) => [`[0:0:0:0:0:0:0:1]:${port}`]],
    ['the IPv6 address without brackets', (port) => [`::1:${port}`]],
    ['the IPv6 address with a zone', (port) => [`[::1%25lo]:${port}`]],
    ['a name that ends in ours', (port) => [`evil-localhost:${port}`]],
    ['a name under ours', (port) => [`evil.localhost:${port}`]],
    ['a name that begins with ours', (port) => [`localhost.evil.example:${port}`]],
    ['a public name of the loopback address', (port) => [`localtest.me:${port}`]],
    ['a user in front', (port) => [`evil@127.0.0.1:${port}`]],
    ['ours as a user', (port) => [`127.0.0.1:${port}@evil.example`]],
    ['a path behind', (port) => [`127.0.0.1:${port}/`]],
    ['a query behind', (port) => [`127.0.0.1:${port}?`]],
    ['a fragment behind', (port) => [`127.0.0.1:${port}#`]],
    ['a list', (port) => [`127.0.0.1:${port}, evil.example`]],
    ['a list of ours', (port) => [`127.0.0.1:${port},127.0.0.1:${port}`]],
    ['a scheme in front', (port) => [`http://127.0.0.1:${port}`]],
    ['a space inside', (port) => [`127.0.0.1 :${port}`]],
    ['a letter beyond ASCII', (port) => [`lo\xe7alhost:${port}`]],
    ['the name of the metadata server', () => ['metadata.google.internal']],
    ['the address of the metadata server', () => ['169.254.169.254']],
  ];
  for (const [event, write, whenHeard] of EVENTS) {
    for (const [what, hosts] of HOSTS) {
      it(`refuses a Host on ${event}: ${what}`, async () => {
        const { status, said } = await say(write(hosts(world.port).map((host) => `Host: ${host}`)));
        assert.equal(status, 403, said);
        assert.match(said, /"code":"host_refused"/);
        assert.doesNotMatch(said, /100 Continue|access-control/i);
        assert.deepEqual(world.arrived, []);
      });
    }

    for (const name of ['127.0.0.1', 'localhost', '[::1]', 'LocalHost']) {
      it(`hears ${name} with our port on ${event}`, async () => {
        const { status, said } = await say(write([`Host: ${name}:${world.port}`]));
        assert.equal(status, whenHeard, said);
      });
    }

    it(`refuses an Origin and a Sec-Fetch-Site on ${event}`, async () => {
      for (const line of ['Origin: https://evil.example', 'Sec-Fetch-Site: cross-site']) {
        const { status, said } = await say(write([`Host: ${world.host}`, line]));
        assert.equal(status, 403, said);
        assert.match(said, /"code":"(?:origin|site)_refused"/);
      }
      assert.deepEqual(world.arrived, []);
    });
  }

  const ORIGINS: [what: string, lines: string[]][] = [
    ['another page', ['Origin: https://evil.example']],
    ['null', ['Origin: null']],
    ['an empty one', ['Origin: ']],
    ['our own address', ['Origin: http://127.0.0.1']],
    ['the listed one over http', ['Origin: http://listed.example']],
    ['the listed one with a port', ['Origin: https://listed.example:8443']],
    ['the listed one with a slash', ['Origin: https://listed.example/']],
    ['the listed one in capitals', ['Origin: https://LISTED.example']],
    ['a name under the listed one', ['Origin: https://a.listed.example']],
    ['a name that ends in the listed one', ['Origin: https://evillisted.example']],
    ['a name that begins with the listed one', ['Origin: https://listed.example.evil.example']],
    ['the listed one and another', ['Origin: https://listed.example', 'Origin: https://evil.example']],
    ['the listed one twice', ['Origin: https://listed.example', 'Origin: https://listed.example']],
    ['a list', ['Origin: https://listed.example https://evil.example']],
    ['an extension', ['Origin: chrome-extension://abcdefghijklmnop']],
    ['a file', ['Origin: file://']],
  ];
  for (const [what, lines] of ORIGINS) {
    for (const method of ['POST', 'OPTIONS']) {
      it(`refuses ${method} of an Origin, without a word to the browser: ${what}`, async () => {
        const preflight = ['Access-Control-Request-Method: POST', 'Access-Control-Request-Private-Network: true'];
        const all = [`Host: ${world.host}`, ...lines, ...(method === 'OPTIONS' ? preflight : [])];
        const { status, said } = await say(chat(all, `${method} /v1/chat/completions`));
        assert.equal(status, 403, said);
        assert.doesNotMatch(said, /access-control/i);
        assert.deepEqual(world.arrived, []);
      });
    }
  }

  for (const site of ['cross-site', 'same-site', 'same-origin', 'None', '', 'none, cross-site']) {
    it(`refuses Sec-Fetch-Site: ${JSON.stringify(site)}`, async () => {
      const { status } = await say(chat([`Host: ${world.host}`, `Sec-Fetch-Site: ${site}`]));
      assert.equal(status, 403);
      assert.deepEqual(world.arrived, []);
    });
  }

  it('refuses a second Sec-Fetch-Site behind a harmless one', async () => {
    const lines = ['Sec-Fetch-Site: none', 'Sec-Fetch-Site: cross-site'];
    assert.equal((await say(chat([`Host: ${world.host}`, ...lines]))).status, 403);
  });

  it('hears what a person typed, and what Node’s own fetch sends', async () => {
    for (const line of ['Sec-Fetch-Site: none', 'Sec-Fetch-Mode: cors']) {
      const { status } = await say(chat([`Host: ${world.host}`, line]));
      assert.equal(status, 200);
    }
  });

  it('lets a listed page ask and read, that page alone, and never with cookies', async () => {
    const page = [`Host: ${world.host}`, 'Origin: https://listed.example', 'Sec-Fetch-Site: cross-site'];
    const asks = ['Access-Control-Request-Method: POST', 'Access-Control-Request-Headers: authorization,content-type'];
    const preflight = await say(head('OPTIONS /v1/chat/completions', [...page, ...asks, 'Connection: close']));
    assert.equal(preflight.status, 204);
    assert.match(preflight.said, /^access-control-allow-headers: authorization,content-type\r$/im);
    const answer = await say(chat(page));
    assert.equal(answer.status, 200);
    const refused = await say(chat(page).replace(world.token, 'spl_unknown'));
    assert.equal(refused.status, 401);
    for (const { said } of [preflight, answer, refused]) {
      assert.match(said, /^access-control-allow-origin: https:\/\/listed\.example\r$/im);
      assert.match(said, /^vary: Origin\r$/im);
      assert.doesNotMatch(said, /allow-credentials|private-network|local-network/i);
    }
  });

  it('reflects no header name in a preflight that is not one', async () => {
    const lines = [`Host: ${world.host}`, 'Origin: https://listed.example', 'Access-Control-Request-Headers: a;b'];
    const { said } = await say(head('OPTIONS /v1/chat/completions', [...lines, 'Connection: close']));
    assert.doesNotMatch(said, /allow-headers/i);
  });

  it('refuses OPTIONS without an Origin', async () => {
    const { status, said } = await say(
      head('OPTIONS /v1/chat/completions', [`Host: ${world.host}`, 'Connection: close']),
    );
    assert.equal(status, 405);
    assert.doesNotMatch(said, /access-control/i);
  });

  it('refuses HTTP/1.0, in which a broken answer could pass for whole', async () => {
    const { status } = await say(chat([`Host: ${world.host}`]).replace('HTTP/1.1', 'HTTP/1.0'));
    assert.equal(status, 400);
    assert.deepEqual(world.arrived, []);
  });

  it('refuses a sender from another machine, whatever it says', () => {
    const guard = openGuard({ port: 8787, origins: () => new Set() });
    const from = (remoteAddress: string | undefined) => () =>
      guard({ httpVersion: '1.1', rawHeaders: ['Host', '127.0.0.1:8787'], socket: { remoteAddress } });
    const isRefused = (error: unknown) => error instanceof DoorError && error.code === 'peer_refused';
    for (const address of ['192.0.2.1', '10.0.0.1', '::ffff:192.0.2.1', 'fe80::1', '', undefined]) {
      assert.throws(from(address), isRefused, String(address));
    }
    for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.1'])
      assert.deepEqual(from(address)(), { origin: undefined });
  });

  it('answers what is no HTTP at all in words, and goes on', async () => {
    for (const bytes of [
      '\x16\x03\x01\x02\x00',
      'GET / FTP/1.0\r\n\r\n',
      `GET / HTTP/1.1\r\nA: ${'a'.repeat(20_000)}\r\n\r\n`,
    ]) {
      assert.ok([400, 431].includes((await say(bytes)).status), JSON.stringify(bytes.slice(0, 20)));
    }
    const socket = connect(world.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write('CONNECT a:1 HTTP/1.1\r\n\r\n');
    socket.resetAndDestroy();
    assert.equal((await world.ask({ body: CHAT })).status, 200);
  });
});

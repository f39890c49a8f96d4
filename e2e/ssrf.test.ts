import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect, isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { EMPTY_SNAPSHOT, SNAPSHOT } from '../broker/auth/replay-handover.ts';
import { openBroker } from '../broker/broker.ts';
import { sendSigned } from '../broker/commands/signed-request.ts';
import { readConfig, type Config } from '../broker/config/config.ts';
import { openLog } from '../broker/log/logger.ts';
import { PrivateAddressError, type Lookup } from '../broker/outbound/agent.ts';
import { openCanary, reach, toFound, type Canary } from './canary.ts';
import { NAMES, writeForms } from './ssrf-forms.ts';
import { CHAT, keyOf, openWorld, SECRETS, VENDOR_KEY, type Ask, type World } from './world.ts';

describe('a form of a private address', () => {
  let canary: Canary;
  before(async () => void (canary = await openCanary()));
  after(() => canary.close());
  beforeEach(() => canary.forget());

  const families = writeForms('https', 1).map(({ what }) => what);
  const urlsOf = (family: number, scheme: 'http' | 'https') => writeForms(scheme, canary.port)[family]!.urls;

  it('is one of more than 500, all different', () => {
    for (const scheme of ['http', 'https'] as const) {
      const urls = writeForms(scheme, canary.port).flatMap((family) => family.urls);
      assert.ok(urls.length > 500);
      assert.equal(new Set(urls).size, urls.length);
    }
  });

  it('leads to a canary that hears whoever comes, at every address of this machine', async () => {
    const linux = process.platform === 'linux' ? ['127.0.0.2', '127.255.255.254'] : [];
    const ours = ['127.0.0.1', ...(canary.hasIPv6 ? ['::1'] : []), ...linux];
    for (const host of ours) await once(connect(canary.port, host).resume(), 'close');
    assert.equal(canary.heard.length, ours.length);
    assert.equal(canary.dialled.length, ours.length);
  });

  it('is reached where private addresses are allowed, also by a name: what follows is refused for its own reason', async () => {
    for (const host of ['127.0.0.1', '[::ffff:7f00:1]', 'localtest.me']) {
      assert.equal(await reach(`http://${host}:${canary.port}`, { allowPrivate: true, lookup }), 'reached');
    }
    assert.equal(canary.heard.length, 3);
  });

  async function assertRefused(url: string): Promise<void> {
    const outcome = await reach(url, { lookup });
    assert.ok(outcome instanceof PrivateAddressError, `${url}: ${String(outcome)}`);
    assert.deepEqual(canary.dialled, [], url);
  }

  describe('as the base_url of a provider', () => {
    for (const [family, what] of families.entries()) {
      it(`is refused in a sentence, or is a name that leads nowhere: ${what}`, async () => {
        for (const url of urlsOf(family, 'https')) {
          const { config, mistakes } = readConfig(sources({ urls: [url] }));
          if (config !== undefined) {
            const [accepted = ''] = baseUrlsOf(config);
            assert.equal(isIP(hostOf(accepted)), 0, `${JSON.stringify(url)} was taken for the address ${accepted}`);
            await assertRefused(accepted);
          } else {
            assert.equal(mistakes.length, 1, JSON.stringify(url));
            assert.match(mistakes[0]!.place, /providers\.form-0\.base_url$/);
            assert.match(mistakes[0]!.says, /^[A-Z].+[.)]$/);
          }
        }
      });
    }
  });

  // The configuration says it early; whatever it may overlook one day must be held at the door.
  describe('past the configuration', () => {
    const takenWherePrivate = (urls: string[]) =>
      urls.flatMap((url) => {
        const { config } = readConfig(sources({ urls: [url], allowPrivate: true }));
        return config === undefined ? [] : baseUrlsOf(config);
      });

    it('is a URL in most cases, so that there is something to hold', () => {
      const taken = takenWherePrivate(families.flatMap((_, family) => urlsOf(family, 'http')));
      assert.ok(taken.length > 250, `${taken.length} forms`);
    });

    for (const [family, what] of families.entries()) {
      it(`is not dialled: ${what}`, async () => {
        for (const scheme of ['http', 'https'] as const) {
          for (const url of takenWherePrivate(urlsOf(family, scheme))) await assertRefused(url);
        }
      });
    }

    it('ends in 502 through a whole broker, and the log says why', async () => {
      const urls = takenWherePrivate(families.flatMap((_, family) => urlsOf(family, 'http'))).filter(
        // Other names would be asked of whichever DNS this machine has.
        (url) => isIP(hostOf(url)) !== 0 || hostOf(url) === 'localhost',
      );
      assert.ok(urls.length > 200, `${urls.length} forms`);
      const broker = await openUnguarded(urls);
      try {
        for (const [index, url] of urls.entries()) {
          const { status, code } = await broker.chat(`form-${index}`);
          assert.equal(`${status} ${code}`, '502 upstream_unreachable', url);
        }
      } finally {
        await broker.close();
      }
      const reasons = broker.log.filter((line) => line.includes('"type":"PrivateAddressError"'));
      assert.equal(reasons.length, urls.length);
      assert.deepEqual(canary.heard, []);
      assert.deepEqual([...new Set(canary.dialled)], [`127.0.0.1 ${broker.port}`]);
    });
  });

  describe('that comes from outside', () => {
    let world: World;
    before(async () => void (world = await openWorld()));
    after(() => world.close());
    beforeEach(() => void (world.vendor.requests.length = 0));

    // Only the vendor was asked, for nothing but what the caller wanted, and nobody else was told its key.
    function assertOnlyVendorAsked(atLeast: number): void {
      const { requests } = world.vendor;
      assert.ok(requests.length >= atLeast);
      for (const { path, headers } of requests) {
        assert.equal(path, '/v1/chat/completions');
        assert.equal(headers.host, `127.0.0.1:${world.vendor.port}`);
        assert.equal(headers.authorization, `Bearer ${VENDOR_KEY}`);
      }
      const known = [world.port, world.vendor.port].map((port) => `127.0.0.1 ${port}`);
      assert.deepEqual(
        canary.dialled.filter((dialled) => !known.includes(dialled)),
        [],
      );
      assert.deepEqual(canary.heard, []);
    }

    /** Lets the vendor answer with these very bytes; a form may be nothing that Node would write. */
    const answerRaw = (write: (body: string) => string) =>
      world.vendor.answerWith((_: IncomingMessage, body: Buffer, response: ServerResponse) => {
        response.socket?.end(write(body.toString()));
      });

    for (const [family, what] of families.entries()) {
      it(`is not followed when a vendor redirects to it: ${what}`, async () => {
        const urls = urlsOf(family, 'http');
        answerRaw((body) => {
          const { user } = JSON.parse(body) as { user: string };
          const [status, index] = user.split(' ').map(Number);
          return `HTTP/1.1 ${status} Elsewhere\r\nLocation: ${urls[index!]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`;
        });
        for (const [index, url] of urls.entries()) {
          const statuses = [301, 302, 303, 307, 308];
          const answers = await Promise.all(statuses.map((status) => world.chat({ user: `${status} ${index}` })));
          for (const { status, headers, text } of answers) {
            assert.equal(status, 502, JSON.stringify(url));
            assert.equal(headers.location, undefined);
            assert.ok(!text.includes(VENDOR_KEY) && !text.includes(`:${canary.port}`), text);
          }
        }
        assertOnlyVendorAsked(urls.length * 5);
      });
    }

    // Everything in an answer that some client, proxy or browser goes to by itself.
    const pointersTo = (url: string) => [
      `Location: ${url}`,
      `Content-Location: ${url}`,
      `Refresh: 0; url=${url}`,
      `Link: <${url}>; rel="preload", <${url}>; rel="canonical"`,
      `Alt-Svc: h2="${new URL(url).host}"; ma=86400`,
      `X-Accel-Redirect: ${url}`,
      `X-Sendfile: ${url}`,
      `WWW-Authenticate: Bearer realm="${url}"`,
      `Proxy-Authenticate: Basic realm="${url}"`,
      `SourceMap: ${url}`,
      `Report-To: {"endpoints":[{"url":"${url}"}]}`,
    ];
    for (const status of [200, 201, 202, 300, 304, 305, 306, 309, 401, 407, 426, 503]) {
      it(`is not followed from any header of an answer with ${status}, nor passed on`, async () => {
        const url = `http://127.0.0.1:${canary.port}/`;
        const body = JSON.stringify({ url });
        const lines = [
          'HTTP/1.1 103 Early Hints',
          `Link: <${url}>; rel="preconnect"`,
          '',
          `HTTP/1.1 ${status} So`,
          ...pointersTo(url),
          'Content-Type: application/json',
          `Content-Length: ${body.length}`,
          'Connection: close',
        ];
        answerRaw(() => `${lines.join('\r\n')}\r\n\r\n${status === 304 ? '' : body}`);
        const { headers } = await world.chat();
        assert.ok(!JSON.stringify(headers).includes(`:${canary.port}`), JSON.stringify(headers));
        assertOnlyVendorAsked(1);
      });
    }

    // What client libraries and other gateways let a caller choose, in every place where something can be written.
    // prettier-ignore
    const FIELDS = [
      'api_base', 'base_url', 'baseUrl', 'baseURL', 'host', 'hostname', 'url', 'uri', 'endpoint', 'api_endpoint', 'azure_endpoint', 'target', 'upstream',
      'proxy', 'http_proxy', 'https_proxy', 'webhook', 'webhook_url', 'callback', 'callback_url', 'redirect', 'redirect_uri', 'server', 'origin', 'provider',
      'custom_host', 'organization', 'location', 'extra_body', 'extra_headers', 'litellm_params', 'config',
    ];
    const asked: [what: string, ask: (url: string) => Ask][] = [
      [
        'fields of the body',
        (url) => ({ body: { ...CHAT, ...Object.fromEntries(FIELDS.map((name) => [name, url])) } }),
      ],
      [
        'objects in the body',
        (url) => ({
          body: { ...CHAT, extra_body: { api_base: url }, litellm_params: { api_base: url }, headers: { host: url } },
        }),
      ],
      [
        'headers',
        (url) => ({
          body: CHAT,
          headers: {
            'x-forwarded-host': new URL(url).host,
            forwarded: `host=${new URL(url).host}`,
            'x-original-url': url,
            'x-rewrite-url': url,
            'x-base-url': url,
            'x-portkey-custom-host': url,
            'helicone-target-url': url,
            'openai-organization': url,
            location: url,
            referer: url,
            via: url,
            'proxy-connection': url,
          },
        }),
      ],
      [
        'the query',
        (url) => ({ body: CHAT, query: `?api_base=${encodeURIComponent(url)}&url=${encodeURIComponent(url)}` }),
      ],
      [
        'the messages',
        (url) => ({
          body: {
            ...CHAT,
            messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }],
            tools: [{ type: 'mcp', server_url: url }],
          },
        }),
      ],
    ];
    for (const [what, ask] of asked) {
      it(`does not change where a request goes when it stands in ${what}`, async () => {
        answerRaw(
          () => 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}',
        );
        const { status, text } = await world.ask(ask(`http://127.0.0.1:${canary.port}/v1`));
        assert.equal(status, 200, text);
        assertOnlyVendorAsked(1);
        assert.equal(world.vendor.requests.length, 1);
      });
    }

    it('is no model', async () => {
      for (const [family] of families.entries()) {
        for (const url of urlsOf(family, 'http').slice(0, 5)) {
          const { status } = await world.chat({ model: url });
          assert.ok(status >= 400 && status < 500, `${status} for ${url}`);
        }
      }
      assertOnlyVendorAsked(0);
      assert.equal(world.vendor.requests.length, 0);
    });
  });
});

// Any name that is not in the table leads to the worst place that it could.
const lookup: Lookup = (host, _, found) => found(null, (NAMES[host] ?? ['127.0.0.1']).map(toFound));

function hostOf(url: string): string {
  return new URL(url).hostname.replace(/^\[|\]$/g, '');
}

type Wanted = { urls: readonly string[]; allowPrivate?: boolean; more?: string };

function sources({ urls, allowPrivate = false, more = '' }: Wanted) {
  const providers = urls.map(
    (url, index) =>
      `  form-${index}: { kind: openai, api_key: ${VENDOR_KEY}, base_url: ${JSON.stringify(url)}, allow_private: ${allowPrivate}, models: [form-${index}] }\n`,
  );
  return { env: {}, cwd: tmpdir(), readFile: () => `${more}providers:\n${providers.join('')}` };
}

function baseUrlsOf({ providers }: Config): string[] {
  return providers.map((provider) => {
    assert.ok(provider.kind === 'openai');
    return provider.baseUrl;
  });
}

/** A broker whose configuration let these URLs pass, and that has nothing but its way out to hold them. */
async function openUnguarded(urls: readonly string[]) {
  const data = mkdtempSync(join(tmpdir(), 'sallyport-'));
  writeFileSync(join(data, SNAPSHOT), JSON.stringify(EMPTY_SNAPSHOT));
  const { port, close: free } = await openCanary();
  await free();
  const more = `
public_url: http://127.0.0.1:${port}
listen: { port: ${port} }
data: ${JSON.stringify(data)}
products: { all: { models: ["form-*"], rate: { burst: 10000, per_second: 10000 } } }
clients: { desktop: { secret: "${SECRETS.desktop}", products: [all] } }
limits: { address: { burst: 10000, per_second: 10000 } }
`;
  const { config, mistakes } = readConfig(sources({ urls, allowPrivate: true, more }));
  assert.ok(config !== undefined, JSON.stringify(mistakes));
  const guarded = { ...config, providers: config.providers.map((provider) => ({ ...provider, allowPrivate: false })) };
  const lines: string[] = [];
  const destination = new Writable({ write: (line: Buffer, _, done) => void (lines.push(line.toString()), done()) });
  const { log, closeLog } = openLog({ level: 'info', destination });
  const broker = await openBroker({ config: guarded, log, now: Date.now, elapsedMs: () => performance.now() });
  return {
    port,
    log: lines,
    async chat(model: string) {
      const answer = await sendSigned(
        {
          base: new URL(`http://127.0.0.1:${port}`),
          key: keyOf('desktop'),
          method: 'POST',
          path: '/v1/chat/completions',
          body: Buffer.from(JSON.stringify({ ...CHAT, model })),
          now: Date.now,
        },
        () => {},
      );
      const { error } = JSON.parse(Buffer.concat(await answer.toArray()).toString()) as { error: { code: string } };
      return { status: answer.statusCode, code: error.code };
    },
    async close() {
      await broker.stop();
      closeLog();
      rmSync(data, { recursive: true, force: true });
    },
  };
}

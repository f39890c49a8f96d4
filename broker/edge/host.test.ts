import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { checkHost } from './host.ts';

const NAMED = ['broker.example.com', 'broker.internal:8443', '[2001:db8::1]:8080'];
const exempt = new Set(['/health']);
const HERE = '127.0.0.1';
const AWAY = '192.0.2.1';

type Row = {
  ours?: readonly string[];
  host: string | undefined;
  from?: string;
  path?: string;
  /** The authority that a signature may cover, undefined where none may, or the refusal. */
  is: string | undefined;
};

const REFUSED = 'host_unknown';

const TABLE: Row[] = [
  { host: 'broker.example.com', is: 'broker.example.com' },
  { host: 'BROKER.example.COM', is: 'broker.example.com' },
  { host: 'broker.example.com:443', is: 'broker.example.com' },
  { host: 'broker.internal:8443', is: 'broker.internal:8443' },
  { host: '[2001:db8::1]:8080', is: '[2001:db8::1]:8080' },
  { host: 'broker.example.com', path: '/health', is: 'broker.example.com' },
  { host: 'broker.example.com:80', is: REFUSED },
  { host: 'broker.example.com:8443', is: REFUSED },
  { host: 'broker.example.com.', is: REFUSED },
  { host: 'broker.example.com:443:443', is: REFUSED },
  { host: 'broker.internal', is: REFUSED },
  { host: 'evil.example', is: REFUSED },
  { host: 'evil.broker.example.com', is: REFUSED },
  { host: 'user@broker.example.com', is: REFUSED },
  { host: '10.0.0.7', is: REFUSED },
  { host: 'localhost', from: HERE, is: REFUSED },
  { host: '', is: REFUSED },
  { host: undefined, is: REFUSED },
  // Probes call by whatever name they like, and what they get depends on no name.
  { host: '10.0.0.7', path: '/health', is: undefined },
  { host: 'evil.example', path: '/health', is: undefined },
  { host: undefined, path: '/health', is: undefined },
  { host: 'evil.example', path: '/health/', is: REFUSED },
  { host: 'evil.example', path: '/Health', is: REFUSED },
  // Without a public_url only this very machine can be believed.
  { ours: [], host: 'localhost:8080', from: HERE, is: 'localhost:8080' },
  { ours: [], host: 'LOCALHOST:8080', from: HERE, is: 'localhost:8080' },
  { ours: [], host: '127.0.0.1:8080', from: HERE, is: '127.0.0.1:8080' },
  { ours: [], host: '127.0.0.1', from: '::ffff:127.0.0.1', is: '127.0.0.1' },
  { ours: [], host: '[::1]:8080', from: '::1', is: '[::1]:8080' },
  { ours: [], host: 'localhost:8080', from: AWAY, is: undefined },
  { ours: [], host: '127.0.0.1', from: AWAY, is: undefined },
  { ours: [], host: 'evil.example', from: HERE, is: undefined },
  { ours: [], host: 'localhost.evil.example', from: HERE, is: undefined },
  { ours: [], host: '127.0.0.1.evil.example', from: HERE, is: undefined },
  { ours: [], host: 'localhost:8080@evil.example', from: HERE, is: undefined },
  { ours: [], host: 'broker.example.com', from: AWAY, is: undefined },
  { ours: [], host: '', from: HERE, is: REFUSED },
  { ours: [], host: undefined, from: HERE, is: REFUSED },
];

describe('the Host header', () => {
  for (const { ours = NAMED, host, from = AWAY, path = '/v1/models', is } of TABLE) {
    const outcome = is === REFUSED ? 'is refused' : is === undefined ? 'proves no name' : `is ${is}`;
    it(`${outcome}: ${host ?? 'none'} for ${path} from ${from}${ours.length === 0 ? ', without a public_url' : ''}`, () => {
      const request = { socket: { remoteAddress: from } } as unknown as IncomingMessage;
      const fields = new Map(host === undefined ? [] : [['host', host]]);
      const target = { method: 'GET', path, query: '', fields, hasContent: false };
      const check = () => checkHost({ authorities: ours, exempt })({ ...target, request });
      if (is === REFUSED) assert.throws(check, { code: REFUSED, status: 421 });
      else assert.deepEqual(check(), { authority: is });
    });
  }
});

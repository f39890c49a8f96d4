import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { findAddress } from './client-address.ts';

const PEER = '10.0.0.9';

const TABLE: [hops: number, forwarded: string | undefined, address: string, peer?: string][] = [
  [0, undefined, PEER],
  [0, '192.0.2.1', PEER],
  [0, undefined, '192.0.2.7', '::ffff:192.0.2.7'],
  [0, undefined, '2001:db8::7', '2001:db8::7'],
  [1, '192.0.2.1', '192.0.2.1'],
  [1, '192.0.2.66, 192.0.2.1', '192.0.2.1'],
  [1, '192.0.2.66,192.0.2.1', '192.0.2.1'],
  [1, '192.0.2.66 ,  192.0.2.1 ', '192.0.2.1'],
  [1, '2001:db8::1', '2001:db8::1'],
  [1, '::ffff:192.0.2.1', '192.0.2.1'],
  [2, '192.0.2.66, 192.0.2.1, 10.0.0.1', '192.0.2.1'],
  [2, '192.0.2.1, 10.0.0.1', '192.0.2.1'],
  [3, '192.0.2.66, 192.0.2.1, 10.0.0.2, 10.0.0.1', '192.0.2.1'],
  // What is not there, or is no address, cannot be believed; who is connected can.
  [1, undefined, PEER],
  [1, '', PEER],
  [1, 'unknown', PEER],
  [1, '192.0.2.1, ', PEER],
  [1, '192.0.2.1:4711', PEER],
  [1, '192.0.2.1; DROP TABLE', PEER],
  [1, '192.0.2.1, 999.1.1.1', PEER],
  [2, '192.0.2.1', PEER],
  [2, '192.0.2.1, , 10.0.0.1', PEER],
];

describe('the address of a caller', () => {
  for (const [hops, forwarded, address, peer = PEER] of TABLE) {
    it(`is ${address} with ${hops} trusted hops, "${forwarded ?? 'no header'}" and a peer at ${peer}`, () => {
      const request = { socket: { remoteAddress: peer } } as unknown as IncomingMessage;
      const fields = new Map(forwarded === undefined ? [] : [['x-forwarded-for', forwarded]]);
      assert.deepEqual(findAddress(hops)({ request, fields }), { address });
    });
  }

  it('is empty when the connection is already gone', () => {
    const request = { socket: {} } as unknown as IncomingMessage;
    assert.deepEqual(findAddress(0)({ request, fields: new Map() }), { address: '' });
  });
});

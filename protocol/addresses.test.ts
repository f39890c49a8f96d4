import assert from 'node:assert/strict';
import { isLoopback, isPublic } from './addresses.ts';

// The first row of each range is the address that somebody would use; the edges show that the prefix is the right one.
const notPublic: [address: string, why: string][] = [
  ['::ffff:0:169.254.169.254', 'IPv4-translated'],
  ['3fff::1', 'documentation'],
  ['5f00::1', 'segment routing'],
  ['100:0:0:1::1', 'not given out'],
  ['4000::1', 'not given out'],
  ['200::1', 'not given out'],
  ['0.0.0.0', 'this host'],
  ['0.255.255.255', 'the end of this network'],
  ['10.0.0.1', 'private'],
  ['10.255.255.255', 'the end of private'],
  ['100.64.0.1', 'a carrier’s own network'],
  ['100.127.255.255', 'the end of a carrier’s own network'],
  ['127.0.0.1', 'loopback'],
  ['127.255.255.254', 'the end of loopback'],
  ['169.254.169.254', 'the metadata service'],
  ['169.254.170.2', 'the metadata service of a container'],
  ['172.16.0.1', 'private'],
  ['172.31.255.255', 'the end of private'],
  ['192.0.0.192', 'the metadata service of Oracle'],
  ['192.0.2.1', 'documentation'],
  ['192.88.99.1', 'the 6to4 relay'],
  ['192.168.1.1', 'private'],
  ['198.18.0.1', 'benchmarks'],
  ['198.19.255.255', 'the end of benchmarks'],
  ['198.51.100.1', 'documentation'],
  ['203.0.113.1', 'documentation'],
  ['224.0.0.1', 'multicast'],
  ['240.0.0.1', 'reserved'],
  ['255.255.255.255', 'broadcast'],
  ['::', 'unspecified'],
  ['::1', 'loopback'],
  ['0:0:0:0:0:0:0:1', 'loopback, written out'],
  ['::1%lo', 'loopback with a zone'],
  ['::127.0.0.1', 'IPv4-compatible'],
  ['::ffff:127.0.0.1', 'IPv4-mapped loopback'],
  ['::ffff:7f00:1', 'IPv4-mapped loopback in hex'],
  ['::FFFF:169.254.169.254', 'IPv4-mapped metadata service'],
  ['0:0:0:0:0:ffff:a9fe:a9fe', 'IPv4-mapped metadata service, written out'],
  ['64:ff9b::a9fe:a9fe', 'NAT64 of the metadata service'],
  ['64:ff9b:1::1', 'NAT64 of one’s own'],
  ['100::1', 'the discard prefix'],
  ['2001::1', 'Teredo'],
  ['2001:1ff:ffff::1', 'the end of the IETF’s own'],
  ['2001:db8::1', 'documentation'],
  ['2002:7f00:1::', '6to4 of loopback'],
  ['2002:a9fe:a9fe::1', '6to4 of the metadata service'],
  ['fc00::1', 'unique local'],
  ['fd00:ec2::254', 'the metadata service of Amazon'],
  ['fdff:ffff::1', 'the end of unique local'],
  ['fe80::1', 'link-local'],
  ['fe80::1%eth0', 'link-local with a zone'],
  ['febf::1', 'the end of link-local'],
  ['fec0::1', 'site-local'],
  ['ff02::1', 'multicast'],
  // Names and numbers that some resolver would still take for an address: without a look-up there is nothing to judge.
  ['127.1', 'a short form'],
  ['2130706433', 'a decimal number'],
  ['0x7f.0.0.1', 'a hexadecimal part'],
  ['0177.0.0.1', 'an octal part'],
  ['127.0.0.1.', 'a dot behind'],
  ['[::1]', 'brackets'],
  ['2606:4700::1111 ', 'a space behind'],
  ['localhost', 'a name'],
  ['broker.example.com', 'a name that may be public'],
  ['', 'nothing'],
];

const publicAddresses: [address: string, why: string][] = [
  ['8.8.8.8', 'a public resolver'],
  ['1.1.1.1', 'a public resolver'],
  ['9.255.255.255', 'the last before private'],
  ['11.0.0.0', 'the first behind private'],
  ['100.63.255.255', 'the last before the carriers'],
  ['100.128.0.0', 'the first behind the carriers'],
  ['172.15.255.255', 'the last before private'],
  ['172.32.0.0', 'the first behind private'],
  ['192.0.1.0', 'between two that are set aside'],
  ['192.167.255.255', 'the last before private'],
  ['192.169.0.0', 'the first behind private'],
  ['198.17.255.255', 'the last before benchmarks'],
  ['198.20.0.0', 'the first behind benchmarks'],
  ['223.255.255.255', 'the last before multicast'],
  ['2606:4700:4700::1111', 'a public resolver'],
  ['2001:4860:4860::8888', 'a public resolver, just behind the IETF’s own'],
  ['2001:200::1', 'the first behind the IETF’s own'],
  ['2001:db9::1', 'the neighbour of documentation'],
  ['2003::1', 'the neighbour of 6to4'],
  ['2A00:1450:4001:81B::200E', 'capitals'],
];

describe('isPublic', () => {
  for (const [address, why] of notPublic) {
    it(`refuses ${address || 'the empty string'}: ${why}`, () => assert.equal(isPublic(address), false));
  }
  for (const [address, why] of publicAddresses) {
    it(`lets ${address} through: ${why}`, () => assert.equal(isPublic(address), true));
  }
});

const loopback: [address: string, isOurs: boolean][] = [
  ['127.0.0.1', true],
  ['127.0.0.53', true],
  ['127.255.255.255', true],
  ['::1', true],
  ['0:0:0:0:0:0:0:1', true],
  ['::ffff:127.0.0.1', true],
  ['::ffff:7f00:1', true],
  ['::ffff:::1', false],
  ['126.255.255.255', false],
  ['128.0.0.1', false],
  ['0.0.0.0', false],
  ['10.0.0.1', false],
  ['::', false],
  ['::2', false],
  ['::127.0.0.1', false],
  ['::ffff:10.0.0.1', false],
  ['::ffff:128.0.0.1', false],
  ['64:ff9b::7f00:1', false],
  ['2002:7f00:1::', false],
  ['fe80::1%lo', false],
  ['127.1', false],
  ['2130706433', false],
  ['localhost', false],
  ['[::1]', false],
  ['', false],
];

describe('isLoopback', () => {
  for (const [address, isOurs] of loopback) {
    it(`${isOurs ? 'knows' : 'does not take'} ${address || 'the empty string'} ${isOurs ? 'as' : 'for'} this machine`, () => {
      assert.equal(isLoopback(address), isOurs);
    });
  }
});

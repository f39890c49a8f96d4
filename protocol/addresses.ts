import { BlockList, isIP, isIPv6 } from 'node:net';

type Network = readonly [network: string, prefix: number];

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

// Everything that IANA sets aside and that is not the public internet. Each family has a list of its own: Node compares an
// IPv4 address with the rules for IPv6 as ::ffff:…, so one rule for mapped addresses would hold for all of IPv4.
const reserved4 = listOf('ipv4', [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
]);

// Of IPv6 only 2000::/3 is given out, and not all of that. The forms that carry an IPv4 address inside (mapped, NAT64, 6to4,
// Teredo) have each been used to reach a metadata service through a proxy that knew only the plain ones.
const given6 = listOf('ipv6', [['2000::', 3]]);
const reserved6 = listOf('ipv6', [
  ['2001::', 23], // Teredo among others
  ['2001:db8::', 32],
  ['2002::', 16], // 6to4
  ['3fff::', 20],
]);

/** Whether this is an address of the machine itself, in either family, IPv4-mapped included. */
export function isLoopback(address: string): boolean {
  return isIP(address) !== 0 && loopback.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/** Whether this address lies on the public internet; a provider elsewhere needs `allow_private`. */
export function isPublic(address: string): boolean {
  if (isIPv6(address)) return given6.check(address, 'ipv6') && !reserved6.check(address, 'ipv6');
  return isIP(address) !== 0 && !reserved4.check(address, 'ipv4');
}

function listOf(family: 'ipv4' | 'ipv6', networks: readonly Network[]): BlockList {
  const list = new BlockList();
  for (const [network, prefix] of networks) list.addSubnet(network, prefix, family);
  return list;
}

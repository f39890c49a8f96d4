/** One way of writing addresses that must not be reached. `urls` are whole, with the port of whoever would be reached. */
export type Family = { what: string; urls: string[] };

/**
 * The ways in which this machine, a private network or a metadata service has been named to get past a check that knew
 * only the plain one. Some are no address to a careful reader; what counts is that nobody is reached by any of them.
 */
export function writeForms(scheme: 'http' | 'https', port: number): Family[] {
  const at = (host: string) => `${scheme}://${host}:${port}/v1`;
  const hosts: [what: string, hosts: string[]][] = [
    ['IPv4', [...TARGETS, ...RANGES]],
    ['IPv4 in numbers of other bases and lengths', TARGETS.flatMap(inOtherBases)],
    ['IPv4 in numbers that overflow', TARGETS.flatMap(overflowing)],
    ['IPv4 in other digits, dots and escapes', TARGETS.flatMap(inOtherCharacters)],
    ['IPv6', IPV6],
    ['IPv6 in other spellings', ['::1', 'fd00:ec2::254', 'fe80::a9fe:a9fe'].flatMap(inOtherSpellings)],
    ['IPv6 with a zone', ['::1', 'fe80::1', 'fd00:ec2::254'].flatMap(withZone)],
    ['IPv4 inside IPv6', [...TARGETS, '10.0.0.1', '192.168.0.1', '100.100.100.200'].flatMap(insideIPv6)],
    ['localhost', LOCALHOST],
    ['names', Object.keys(NAMES)],
  ];
  return [
    ...hosts.map(([what, named]) => ({ what, urls: named.map(at) })),
    { what: 'URLs that two readers read in two ways', urls: TARGETS.flatMap((to) => twofold(scheme, `${to}:${port}`)) },
    { what: 'usual ports', urls: USUAL_PORTS.map((usual) => `${scheme}://127.0.0.1${usual}/v1`) },
    { what: 'other schemes', urls: SCHEMES.map((other) => `${other}127.0.0.1:${port}/v1`) },
  ];
}

/** Names that are public to look at, and where they have led: by mistake, by custom, or by design. */
export const NAMES: Readonly<Record<string, readonly string[]>> = {
  'metadata.google.internal': ['169.254.169.254'],
  'metadata.google.internal.': ['169.254.169.254'],
  'Metadata.Google.Internal': ['169.254.169.254'],
  'metadata.goog': ['169.254.169.254'],
  metadata: ['169.254.169.254'],
  'instance-data': ['169.254.169.254'],
  'instance-data.ec2.internal': ['fd00:ec2::254'],
  'metadata.tencentyun.com': ['169.254.0.23'],
  'rancher-metadata': ['169.254.169.250'],
  'kubernetes.default.svc': ['10.96.0.1'],
  'kubernetes.default.svc.cluster.local': ['10.96.0.1'],
  'host.docker.internal': ['192.168.65.2'],
  'gateway.docker.internal': ['192.168.65.1'],
  'host.containers.internal': ['169.254.1.2'],
  'ip6-localhost': ['::1'],
  'ip6-loopback': ['::1'],
  'localhost.localdomain': ['127.0.0.1'],
  localhost6: ['::1'],
  'this-machine.local': ['127.0.1.1'],
  'localtest.me': ['127.0.0.1', '::1'],
  'lvh.me': ['127.0.0.1'],
  '127.0.0.1.nip.io': ['127.0.0.1'],
  '7f000001.nip.io': ['127.0.0.1'],
  'app-169-254-169-254.nip.io': ['169.254.169.254'],
  '10-0-0-1.sslip.io': ['10.0.0.1'],
  '--1.sslip.io': ['::1'],
  'printer.home.arpa': ['192.168.1.20'],
  'xn--localhst-s1a.example': ['127.0.0.1'],
  '127.0.0.1.example.com': ['127.0.0.1'],
  'half-private.example': ['8.8.8.8', '10.0.0.1'],
  'half-private-6.example': ['2606:4700::1111', '::1'],
  'mapped.example': ['::ffff:127.0.0.1'],
  'mapped-hex.example': ['::ffff:a9fe:a9fe'],
  'compatible.example': ['::127.0.0.1'],
  'nat64.example': ['64:ff9b::7f00:1'],
  'six-to-four.example': ['2002:7f00:1::1'],
  'teredo.example': ['2001:0:4136:e378:8000:63bf:80ff:fffe'],
  'link.example': ['fe80::1%lo'],
  'nowhere.example': ['0.0.0.0'],
  'nowhere-6.example': ['::'],
  'everybody.example': ['255.255.255.255'],
};

const TARGETS = ['127.0.0.1', '169.254.169.254'] as const;

// Each range that is set aside, by the address that somebody would use and by its end.
// prettier-ignore
const RANGES = [
  '127.0.0.2', '127.0.0.53', '127.1.2.3', '127.255.255.254', '0.0.0.0', '0.0.0.1', '0.255.255.255',
  '10.0.0.1', '10.255.255.255', '172.16.0.1', '172.17.0.1', '172.31.255.255', '192.168.0.1', '192.168.255.255',
  '100.64.0.1', '100.100.100.200', '100.127.255.255', '169.254.0.1', '169.254.170.2', '169.254.169.123',
  '192.0.0.1', '192.0.0.192', '192.0.2.1', '192.88.99.1', '198.18.0.1', '198.19.255.255', '198.51.100.1', '203.0.113.1',
  '224.0.0.1', '239.255.255.250', '240.0.0.1', '255.255.255.254', '255.255.255.255',
];

// prettier-ignore
const IPV6 = [
  '::1', '::', '0::1', '::2', 'fc00::1', 'fd00:ec2::254', 'FD00:EC2::254', 'fd12:3456:789a::1', 'fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
  'fe80::1', 'fe80::a9fe:a9fe', 'FE80::A9FE:A9FE', 'febf::1', 'fec0::1', 'feff::1', 'ff00::1', 'ff02::1', 'ff0e::1', '100::1', '100:0:0:1::1',
  '64:ff9b:1::1', '200::1', '2001::1', '2001:2::1', '2001:10::1', '2001:20::1', '2001:db8::1', '2002::1', '3fff::1',
  '4000::1', '5f00::1', '8000::1', 'e000::1',
].map((address) => `[${address}]`);

// prettier-ignore
const LOCALHOST = [
  'localhost', 'LOCALHOST', 'LocalHost', 'localhost.', 'LOCALHOST.', 'localhost..', '.localhost', 'a.localhost', 'a.b.localhost',
  'A.LOCALHOST.', 'api.openai.com.localhost', '*.localhost', 'xn--localhost-', '(localhost)', "'localhost'", 'localhost,', 'localhost;',
  '%6cocalhost', '%6C%6f%63%61%6c%68%6f%73%74', 'local%68ost', 'localhost%2e', 'localhost%00', 'localhost%00.example.com', 'localhost%20',
  'localhost%0a', 'lo\tcalhost', 'lo\ncalhost', 'lo\r\ncalhost', ' localhost', 'localhost ', '\u00a0localhost', 'lo\u00adcalhost',
  'lo\u200bcalhost', 'lo\u2060calhost', '\ufefflocalhost', '\u202elocalhost', 'ｌｏｃａｌｈｏｓｔ', 'ＬＯＣＡＬＨＯＳＴ', 'ⓛⓞⓒⓐⓛⓗⓞⓢⓣ',
  '𝓵𝓸𝓬𝓪𝓵𝓱𝓸𝓼𝓽', 'ˡᵒcalhost', 'localho\u017ft', 'localhoﬆ', 'localhost。', 'localhost．', 'a。localhost', 'a%E3%80%82localhost',
];

const USUAL_PORTS = ['', ':', ':80', ':443', ':0', ':0080', ':00443'];

// prettier-ignore
const SCHEMES = [
  'ftp://', 'file://', 'gopher://', 'dict://', 'ldap://', 'ws://', 'wss://', 'tftp://', 'sftp://', 'h2c://', 'htp://', 'unix:/',
  'http+unix://', 'data:', 'javascript:', 'jar:http://', 'blob:http://', 'url:http://', 'view-source:http://', 'http', '', '//', '///', '/\\', '\\\\',
];

// As inet_aton(3) reads them, and with it most resolvers.
function inOtherBases(dotted: string): string[] {
  const bytes = bytesOf(dotted);
  const [a, b, c, d] = bytes;
  const whole = Buffer.from(bytes).readUInt32BE();
  const [last2, last3] = [whole & 0xffff, whole & 0xffffff];
  // prettier-ignore
  return [
    `${whole}`, `0x${hex(whole)}`, `0X${hex(whole).toUpperCase()}`, `0x00000000${hex(whole, 8)}`, `0${octal(whole)}`, `000000${octal(whole)}`,
    bytes.map((byte) => `0x${hex(byte)}`).join('.'), bytes.map((byte) => `0X${hex(byte, 8)}`).join('.'),
    bytes.map((byte) => `0${octal(byte)}`).join('.'), bytes.map((byte) => `0000${octal(byte)}`).join('.'),
    `0x${hex(a)}.${b}.0${octal(c)}.${d}`, `${a}.0x${hex(b)}.${c}.0${octal(d)}`, `0${octal(a)}.${last3}`, `0x${hex(a)}.0x${hex(last3)}`,
    `${a}.${last3}`, `${a}.${b}.${last2}`, `${a}.${b}.0x${hex(last2)}`, `${dotted}.`, `${whole}.`, `0x${hex(whole)}.`, `${dotted}..`,
  ];
}

// What a reader who drops the carry, a sign or a part takes for the same.
function overflowing(dotted: string): string[] {
  const [a, b, c, d] = bytesOf(dotted);
  const whole = Buffer.from([a, b, c, d]).readUInt32BE();
  // prettier-ignore
  return [
    `${whole + 2 ** 32}`, `0x1${hex(whole, 8)}`, `0${octal(whole + 2 ** 32)}`, `-${2 ** 32 - whole}`, `${a + 256}.${b}.${c}.${d}`, `${a}.${b}.${c}.${d + 256}`,
    `${a - 256}.${b}.${c}.${d}`, `${dotted}.0`, `0.${dotted}`, `${a}.${b}..${d}`, `+${dotted}`, `${dotted}e0`,
  ];
}

function inOtherCharacters(dotted: string): string[] {
  const inDigits = (digits: string) => dotted.replace(/\d/g, (digit) => [...digits][Number(digit)]!);
  const escaped = Array.from(dotted, (character) => `%${hex(character.charCodeAt(0))}`).join('');
  // prettier-ignore
  return [
    ...['０１２３４５６７８９', '⓪①②③④⑤⑥⑦⑧⑨', '⁰¹²³⁴⁵⁶⁷⁸⁹', '₀₁₂₃₄₅₆₇₈₉', '𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗', '𝟘𝟙𝟚𝟛𝟜𝟝𝟞𝟟𝟠𝟡', '٠١٢٣٤٥٦٧٨٩', '०१२३४५६७८९'].map(inDigits),
    ...['。', '．', '｡', '․', '·', '%2e', '%2E', '%E3%80%82', ',', '.\t', '.\n', '. ', '.\u00ad', '.\u200b'].map((dot) => dotted.replaceAll('.', dot)),
    inDigits('０１２３４５６７８９').replaceAll('.', '。'),
    escaped, escaped.replaceAll('%3', '%253'), `%${hex(dotted.charCodeAt(0))}${dotted.slice(1)}`, `${dotted}%2e`, `${dotted}。`, `${dotted}%00`,
    `${dotted}%00.example.com`, `${dotted}%20`, `${dotted}\u0000`, `\u200b${dotted}`, `${dotted}\u00ad`, `[${dotted}]`, `(${dotted})`,
  ];
}

function inOtherSpellings(address: string): string[] {
  const [front = [], back = []] = address.split('::').map((half) => half.split(':').filter(Boolean));
  const groups = [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back];
  const long = groups.map((group) => group.padStart(4, '0')).join(':');
  // prettier-ignore
  return [
    `[${groups.join(':')}]`, `[${long}]`, `[${groups.slice(0, 7).join(':')}:0${groups[7]}]`, address, `[${address}`,
    `%5B${address}%5D`, `[${address}].`, `[${address}].example.com`, `[[${address}]]`, `[v1.${address}]`, `[ ${address}]`, `[0${long}]`,
  ];
}

function withZone(address: string): string[] {
  return ['%25lo', '%lo', '%251', '%1', '%25', '%25eth0', '%2525lo'].map((zone) => `[${address}${zone}]`);
}

// Mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP: each has the four bytes in a place of its own.
function insideIPv6(dotted: string): string[] {
  const bytes = Buffer.from(bytesOf(dotted));
  const [high, low] = [bytes.readUInt16BE(0), bytes.readUInt16BE(2)];
  const groups = `${hex(high)}:${hex(low)}`;
  // prettier-ignore
  return [
    `::ffff:${dotted}`, `::FFFF:${dotted}`, `::ffff:${groups}`, `0:0:0:0:0:ffff:${dotted}`, `0000:0000:0000:0000:0000:FFFF:${groups}`,
    `::${dotted}`, `::${groups}`, `::ffff:0:${dotted}`, `64:ff9b::${dotted}`, `64:ff9b::${groups}`, `64:ff9b:1::${dotted}`,
    `2002:${groups}::1`, `2002:${groups}:0:0:5efe:${groups}`, `2001:0:4136:e378:8000:63bf:${hex(0xffff ^ high)}:${hex(0xffff ^ low)}`,
    `fe80::5efe:${dotted}`, `2001:db8::${dotted}`,
  ].map((address) => `[${address}]`);
}

// Where does the host begin and where does it end? Behind the last @, before the first /, \, ? or #: not everybody agrees.
function twofold(scheme: string, place: string): string[] {
  // prettier-ignore
  const behindScheme = [
    `@${place}`, `:@${place}`, `api.example.com@${place}`, `api.example.com:443@${place}`, `user:password@${place}`, `a@b@${place}`, `%40@${place}`,
    `api.example.com%40${place}`, `api.example.com\\@${place}`, `${place}\\@api.example.com`, `${place}#@api.example.com`, `${place}?@api.example.com`,
    `${place}#.example.com`, `${place}?.example.com`, `${place}/.example.com`, `${place};@api.example.com`, `${place}&@api.example.com#@x`,
    `api.example.com#@${place}`, `api.example.com?@${place}`, `api.example.com;${place}`, `api.example.com ${place}`, `api.example.com,${place}`,
    `/${place}`, `//${place}`, `\\${place}`, `\\\\${place}`, `\t${place}`, `\n${place}`, ` ${place}`, `${place} `, `${place}\r\nHost: api.example.com`,
    `${place}/%0d%0aHost:%20api.example.com`, `${place}/..;/`, `${place}/\u0000`,
  ];
  // prettier-ignore
  return [
    ...behindScheme.map((rest) => `${scheme}://${rest}`),
    `${scheme}:${place}`, `${scheme}:/${place}`, `${scheme}:\\\\${place}`, `${scheme}:/\\${place}`, `${scheme}:\\/${place}`, `${scheme}:\t//${place}`,
    `${scheme.toUpperCase()}://${place}`, `${scheme.slice(0, 2)}\n${scheme.slice(2)}://${place}`, ` ${scheme}://${place}`, `\u0001${scheme}://${place}`,
    `\ufeff${scheme}://${place}`, `<${scheme}://${place}>`, `url(${scheme}://${place})`, `0;url=${scheme}://${place}`,
  ];
}

function bytesOf(dotted: string): [number, number, number, number] {
  return dotted.split('.').map(Number) as [number, number, number, number];
}

function hex(value: number, digits = 1): string {
  return value.toString(16).padStart(digits, '0');
}

function octal(value: number): string {
  return value.toString(8);
}

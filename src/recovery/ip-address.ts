/** IPv4 and IPv6 addresses and subnets as numbers (RFC 4291, section 2.2; written as RFC 5952 asks). Pure. */

export type IpFamily = 4 | 6;
export type IpAddress = { family: IpFamily; value: bigint };
/** `address` may have host bits: 10.1.0.5/24 is an address in its subnet. */
export type IpPrefix = { address: IpAddress; length: number };

export const BITS: Record<IpFamily, number> = { 4: 32, 6: 128 };

/** Undefined for what is no address. */
export function parseAddress(text: string): IpAddress | undefined {
  const value = text.includes(':') ? parseIpv6(text) : parseIpv4(text);
  if (value === undefined) return undefined;
  return { family: text.includes(':') ? 6 : 4, value };
}

/** An address with its prefix length, such as 10.1.0.5/24. */
export function parsePrefix(text: string): IpPrefix | undefined {
  const [head = '', tail, ...more] = text.split('/');
  const address = parseAddress(head);
  if (address === undefined || tail === undefined || more.length > 0 || !/^\d{1,3}$/.test(tail))
    return undefined;
  const length = Number(tail);
  return length <= BITS[address.family] ? { address, length } : undefined;
}

export function formatAddress({ family, value }: IpAddress): string {
  if (family === 4) {
    return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join('.');
  }
  const groups = Array.from({ length: 8 }, (_, index) => (value >> BigInt(112 - 16 * index)) & 0xffffn);
  return compressed(groups.map((group) => group.toString(16)));
}

export function formatPrefix({ address, length }: IpPrefix): string {
  return `${formatAddress(address)}/${length}`;
}

/** The bits of the host within its subnet. */
export function hostMask(family: IpFamily, length: number): bigint {
  return (1n << BigInt(BITS[family] - length)) - 1n;
}

/** The first address of the subnet. */
export function baseOf({ address, length }: IpPrefix): bigint {
  return address.value & ~hostMask(address.family, length);
}

export function hasHostBits({ address, length }: IpPrefix): boolean {
  return (address.value & hostMask(address.family, length)) !== 0n;
}

export function contains(subnet: IpPrefix, address: IpAddress): boolean {
  const { family } = subnet.address;
  if (family !== address.family) return false;
  return (address.value & ~hostMask(family, subnet.length)) === baseOf(subnet);
}

/** Two subnets are apart, or one lies in the other. */
export function overlap(a: IpPrefix, b: IpPrefix): boolean {
  return a.length <= b.length ? contains(a, b.address) : contains(b, a.address);
}

/** fe80::/10 and 169.254.0.0/16, which hold on one link only; and those of the machine itself. */
export function isLocal(address: IpAddress): boolean {
  return LOCAL.some((subnet) => contains(subnet, address));
}

const LOCAL = ['fe80::/10', '169.254.0.0/16', '::1/128', '127.0.0.0/8'].map((text) => parsePrefix(text)!);

function parseIpv4(text: string): bigint | undefined {
  const parts = text.split('.');
  // A leading zero is octal to some programs and decimal to others.
  const isValid =
    parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256);
  return isValid ? parts.reduce((value, part) => (value << 8n) | BigInt(part), 0n) : undefined;
}

function parseIpv6(text: string): bigint | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half, index) => groupsOf(half, index === halves.length - 1));
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  const missing = 8 - head.length - (tail?.length ?? 0);
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...Array.from({ length: missing }, () => 0n), ...(tail ?? [])];
  return groups.reduce((value, group) => (value << 16n) | group, 0n);
}

/** The last two groups of all may be written as an IPv4 address. */
function groupsOf(text: string, isLast: boolean): bigint[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: bigint[] = [];
  for (const [index, part] of parts.entries()) {
    if (part.includes('.') && isLast && index === parts.length - 1) {
      const value = parseIpv4(part);
      if (value === undefined) return undefined;
      groups.push(value >> 16n, value & 0xffffn);
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(BigInt(`0x${part}`));
    else return undefined;
  }
  return groups;
}

/** The longest run of zeros, of at least two groups and the first of several, becomes `::`. */
function compressed(groups: readonly string[]): string {
  let best = { start: 0, length: 1 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === '0') length++;
    if (length > best.length) best = { start, length };
  }
  if (best.length < 2) return groups.join(':');
  return `${groups.slice(0, best.start).join(':')}::${groups.slice(best.start + best.length).join(':')}`;
}

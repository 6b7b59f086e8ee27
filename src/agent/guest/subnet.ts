/** Addresses with their prefix lengths, as numbers. Pure. */
import { isIPv4, isIPv6 } from 'node:net';

export type Subnet = { address: string; prefix: number };

/** Guests on a network of unknown size: what most have. */
const USUAL_PREFIX = { ipv4: 24, ipv6: 64 };
/** Addresses tried before a subnet counts as full. */
const TRIES_MAX = 256;

/** From text such as 10.2.0.5/24; undefined when it is none. */
export function subnetOf(text: string): Subnet | undefined {
  const [address = '', length] = text.split('/');
  const isFour = isIPv4(address);
  if (!isFour && !isIPv6(address)) return undefined;
  const prefix = length === undefined ? USUAL_PREFIX[isFour ? 'ipv4' : 'ipv6'] : Number(length);
  return prefix <= (isFour ? 32 : 128) ? { address, prefix } : undefined;
}

/** Another address of the same subnet, from its upper end, that is not among `taken`; undefined when there is none. */
export function neighbourOf({ address, prefix }: Subnet, taken: readonly string[]): string | undefined {
  const bits = isIPv4(address) ? 32 : 128;
  const hostBits = BigInt(bits - prefix);
  const known = new Set([address, ...taken].map(numberOf));
  const first = (numberOf(address) >> hostBits) << hostBits;
  const last = first + (1n << hostBits) - 1n;
  // The first is the network's own, the last is everybody's.
  for (let candidate = last - 1n, tries = 0; candidate > first && tries < TRIES_MAX; candidate--, tries++) {
    if (!known.has(candidate)) return textOf(candidate, bits);
  }
  return undefined;
}

export function isLinkLocal(address: string): boolean {
  return /^(fe[89ab]|169\.254\.|127\.|::1$)/i.test(address);
}

function numberOf(address: string): bigint {
  if (isIPv4(address)) return address.split('.').reduce((sum, byte) => (sum << 8n) + BigInt(byte), 0n);
  // The URL parser writes each of its forms in one; an IPv4 tail becomes two groups.
  const whole = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = whole.split('::');
  const before = head.split(':').filter((group) => group !== '');
  const after = (tail ?? '').split(':').filter((group) => group !== '');
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  const groups = tail === undefined ? before : [...before, ...zeros, ...after];
  return groups.reduce((sum, group) => (sum << 16n) + BigInt(`0x${group}`), 0n);
}

function textOf(value: bigint, bits: number): string {
  const step = bits === 32 ? 8n : 16n;
  const mask = (1n << step) - 1n;
  const groups: string[] = [];
  for (let left = BigInt(bits) - step; left >= 0n; left -= step) {
    groups.push(((value >> left) & mask).toString(bits === 32 ? 10 : 16));
  }
  return groups.join(bits === 32 ? '.' : ':');
}

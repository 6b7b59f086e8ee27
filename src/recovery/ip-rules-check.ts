/**
 * What is wrong with rules for addresses, and with what a VM's own settings say of them. Pure.
 *
 * Invariant: under rules without an error no two addresses become one.
 */
import {
  baseOf,
  BITS,
  contains,
  formatPrefix,
  hasHostBits,
  hostMask,
  isLocal,
  overlap,
  parseAddress,
  parsePrefix,
  type IpPrefix,
} from './ip-address.ts';
import { moved, type IpRule, type WantedAddresses } from './ip-rules.ts';

export type IpProblem = {
  severity: 'error' | 'warning';
  message: string;
  hint: string;
  /** Within the list of rules, or within the settings of the interface. */
  at: (string | number)[];
};

type Parsed = { index: number; rule: IpRule; from: IpPrefix; to: IpPrefix };

export function checkRules(rules: readonly IpRule[]): IpProblem[] {
  const problems: IpProblem[] = [];
  const parsed = rules.flatMap((rule, index) => {
    const [from, to] = Object.entries({ from: rule.from, to: rule.to }).map(([part, text]) =>
      subnetIn(text, [index, part], problems),
    );
    checkLists(rule, [index], problems);
    return from === undefined || to === undefined ? [] : [{ index, rule, from, to }];
  });
  const whole = parsed.filter((one) => isWhole(one, problems));
  for (const [index, one] of whole.entries()) {
    for (const other of whole.slice(0, index)) checkPair(other, one, problems);
  }
  return problems;
}

function subnetIn(text: string, at: IpProblem['at'], problems: IpProblem[]): IpPrefix | undefined {
  const subnet = parsePrefix(text);
  if (subnet === undefined) {
    problems.push({
      severity: 'error',
      message: `"${text}" is no subnet`,
      hint: 'Write its first address and its prefix length, such as 10.1.0.0/24 or 2001:db8:1::/64.',
      at,
    });
  } else if (hasHostBits(subnet)) {
    const base = { address: { ...subnet.address, value: baseOf(subnet) }, length: subnet.length };
    problems.push({
      severity: 'error',
      message: `${text} is an address within a subnet, not the subnet`,
      hint: `Write ${formatPrefix(base)}.`,
      at,
    });
    return undefined;
  }
  return subnet;
}

/** A rule by itself. */
function isWhole({ index, rule, from, to }: Parsed, problems: IpProblem[]): boolean {
  if (from.address.family !== to.address.family) {
    problems.push({
      severity: 'error',
      message: `rule ${index + 1} moves IPv${from.address.family} addresses to a subnet of IPv${to.address.family}`,
      hint: 'Write a rule for each.',
      at: [index, 'to'],
    });
    return false;
  }
  if (to.length > from.length) {
    problems.push({
      severity: 'error',
      message:
        `rule ${index + 1}: subnet ${rule.to} is too small: ` +
        `it has ${sizeOf(to)}, and ${rule.from} has ${sizeOf(from)}`,
      hint: `Choose a subnet with a prefix of at most ${from.length} bits, or write rules for parts of ${rule.from}.`,
      at: [index, 'to'],
    });
    return false;
  }
  checkGateway({ index, rule, from, to }, problems);
  return true;
}

function checkGateway({ index, rule, to }: Parsed, problems: IpProblem[]): void {
  const { gateway } = rule;
  const at = [index, 'gateway'];
  if (gateway === undefined) {
    problems.push({
      severity: 'warning',
      message: `rule ${index + 1} names no gateway: guests keep theirs, which is hardly in ${rule.to}`,
      hint: 'Add "gateway", or "gateway: null" for none.',
      at: [index],
    });
  }
  if (gateway === undefined || gateway === null) return;
  const address = parseAddress(gateway);
  if (address === undefined) problems.push(noAddress(gateway, at));
  else if (!contains(to, address) && !(address.family === 6 && isLocal(address) && to.address.family === 6)) {
    problems.push({
      severity: 'error',
      message: `rule ${index + 1}: gateway ${gateway} is outside of ${rule.to}`,
      hint: 'Guests could not reach it: name one of that subnet.',
      at,
    });
  }
}

function checkPair(a: Parsed, b: Parsed, problems: IpProblem[]): void {
  const { family } = a.from.address;
  if (family !== b.from.address.family) return;
  const isSameScope = a.rule.network === b.rule.network;
  // Networks that are apart may use the same addresses.
  if (!isSameScope && a.rule.network !== undefined && b.rule.network !== undefined) return;
  const names = `rules ${a.index + 1} and ${b.index + 1}`;
  const isSame = a.from.length === b.from.length && overlap(a.from, b.from);
  if (isSame && isSameScope) {
    problems.push({
      severity: 'error',
      message: `${names} overlap: both move ${a.rule.from}`,
      hint: 'Keep one, or say of which network each is by "network".',
      at: [b.index],
    });
    return;
  }
  if (isSame || !overlap(imageOf(a), imageOf(b))) return;
  const [outer, inner] = a.from.length <= b.from.length ? [a, b] : [b, a];
  // A part of a subnet that stays where the rule of the whole would put it, with a gateway of its own perhaps.
  if (overlap(outer.from, inner.from) && moved(inner.from, outer).address.value === baseOf(inner.to)) return;
  problems.push({
    severity: 'error',
    message: `${names} overlap: addresses of ${a.rule.from} and ${b.rule.from} become the same of ${inner.rule.to}`,
    hint: 'Move them to subnets that are apart.',
    at: [b.index, 'to'],
  });
}

/** What the addresses of `from` become, all of them. */
function imageOf({ from, to }: Parsed): IpPrefix {
  return { address: { ...to.address, value: baseOf(to) }, length: from.length };
}

/** The settings of one interface of a VM, with what rules have added to them. */
export function checkWanted(wanted: WantedAddresses, name: string): IpProblem[] {
  const problems: IpProblem[] = [];
  checkLists(wanted, [], problems);
  for (const family of [4, 6] as const) {
    const part = family === 4 ? 'ipv4' : 'ipv6';
    const addresses = wanted[part];
    const subnets: IpPrefix[] = [];
    for (const [index, text] of Array.isArray(addresses) ? addresses.entries() : []) {
      const address = hostIn(text, family, { name, at: [part, index] }, problems);
      if (address !== undefined) subnets.push(address);
    }
    const isFixed = Array.isArray(addresses) && addresses.length > 0;
    checkGatewayOf(wanted, { family, name, subnets: isFixed ? subnets : undefined }, problems);
  }
  return problems;
}

function hostIn(
  text: string,
  family: 4 | 6,
  { name, at }: { name: string; at: IpProblem['at'] },
  problems: IpProblem[],
): IpPrefix | undefined {
  const found = parsePrefix(text);
  const add = (message: string, hint: string): void => {
    problems.push({ severity: 'error', message: `${name}: ${message}`, hint, at });
  };
  if (found === undefined || found.address.family !== family) {
    const example = family === 4 ? '10.2.0.5/24' : '2001:db8:2::5/64';
    add(`"${text}" is no IPv${family} address with a prefix length`, `Write one such as ${example}.`);
    return undefined;
  }
  const mask = hostMask(family, found.length);
  const host = found.address.value & mask;
  const isPair = found.length >= BITS[family] - 1;
  if (!isPair && host === 0n)
    add(`${text} is the address of the subnet itself`, 'Give the VM one within it.');
  else if (!isPair && family === 4 && host === mask) {
    add(`${text} is the address of all of the subnet`, 'Give the VM one within it.');
  }
  return found;
}

function checkGatewayOf(
  wanted: WantedAddresses,
  { family, name, subnets }: { family: 4 | 6; name: string; subnets: IpPrefix[] | undefined },
  problems: IpProblem[],
): void {
  const part = family === 4 ? 'gateway4' : 'gateway6';
  const gateway = wanted[part];
  if (gateway === undefined || gateway === null) return;
  const address = parseAddress(gateway);
  if (address?.family !== family) {
    problems.push({
      ...noAddress(gateway, [part]),
      message: `${name}: "${gateway}" is no IPv${family} address`,
    });
    return;
  }
  if (subnets === undefined || subnets.some((subnet) => contains(subnet, address))) return;
  if (family === 6 && isLocal(address)) return;
  problems.push({
    severity: 'error',
    message: `${name}: gateway ${gateway} is outside of the subnet of ${subnets.map(formatPrefix).join(', ')}`,
    hint: 'The guest could not reach it: name one of its subnet.',
    at: [part],
  });
}

function checkLists({ dns }: { dns?: string[] }, at: IpProblem['at'], problems: IpProblem[]): void {
  for (const [index, text] of (dns ?? []).entries()) {
    if (parseAddress(text) === undefined) problems.push(noAddress(text, [...at, 'dns', index]));
  }
}

function noAddress(text: string, at: IpProblem['at']): IpProblem {
  const hint = 'Write one such as 10.2.0.1 or 2001:db8:2::1, without a prefix length.';
  return { severity: 'error', message: `"${text}" is no address`, hint, at };
}

function sizeOf({ address, length }: IpPrefix): string {
  const bits = BITS[address.family] - length;
  const count = bits <= 32 ? String(2 ** bits) : `2^${bits}`;
  return bits === 0 ? 'one address' : `${count} addresses`;
}

/**
 * Addresses of a recovered VM: rules move those of one subnet to another and keep the host's part; settings of a VM
 * count more than rules; of several rules the one with the longest prefix counts, and of the same length that of the
 * interface's own network. Pure.
 */
import {
  baseOf,
  contains,
  formatPrefix,
  hostMask,
  isLocal,
  parsePrefix,
  type IpFamily,
  type IpPrefix,
} from './ip-address.ts';

/** As a plan has it. */
export type IpRule = {
  network?: string;
  from: string;
  to: string;
  gateway?: string | null;
  dns?: string[];
  search?: string[];
};

/** As the VM has it at the protected site. */
export type GuestInterface = { mac: string; network: string | null; addresses: readonly string[] };

/** What is to be changed on one interface; what is absent stays as it is. */
export type WantedAddresses = {
  nic: number | string;
  ipv4?: 'dhcp' | string[];
  ipv6?: 'dhcp' | 'slaac' | string[];
  gateway4?: string | null;
  gateway6?: string | null;
  dns?: string[];
  search?: string[];
};

export type Customized = {
  nic: number | string;
  /** Null when the protected site has not told of such an interface. */
  found: GuestInterface | null;
  /** Null when nothing is changed. */
  wanted: WantedAddresses | null;
  /** Places of the rules that were used, from 0. */
  rules: number[];
};

const LIST_MAX = 8;

/** One for each interface that is known, then one for each that only the settings name. */
export function customize(
  interfaces: readonly GuestInterface[],
  rules: readonly IpRule[],
  settings: readonly WantedAddresses[],
): Customized[] {
  const known = interfaces.map((found, index): Customized => {
    const own = settings.find(({ nic }) => nic === index || nic === found.mac);
    const { wanted, used } = byRules(found, rules, own);
    // By its place: a test's VM has new MAC addresses.
    const all = { nic: index, ...wanted, ...withoutNic(own) };
    return { nic: index, found, wanted: Object.keys(all).length > 1 ? all : null, rules: used };
  });
  const others = settings.filter(
    ({ nic }) => !interfaces.some(({ mac }, index) => nic === index || nic === mac),
  );
  return [
    ...known,
    ...others.map((wanted): Customized => ({ nic: wanted.nic, found: null, wanted, rules: [] })),
  ];
}

/** Where the rule puts an address of its `from`. */
export function moved(address: IpPrefix, rule: { from: IpPrefix; to: IpPrefix }): IpPrefix {
  const { family, value } = address.address;
  const host = value & hostMask(family, rule.from.length);
  return { address: { family, value: baseOf(rule.to) | host }, length: rule.to.length };
}

function byRules(
  found: GuestInterface,
  rules: readonly IpRule[],
  own: WantedAddresses | undefined,
): { wanted: Omit<WantedAddresses, 'nic'>; used: number[] } {
  const used = new Set<number>();
  const wanted: Omit<WantedAddresses, 'nic'> = {};
  const all = found.addresses
    .flatMap((text) => parsePrefix(text) ?? [])
    .filter(({ address }) => !isLocal(address));
  for (const family of [4, 6] as const) {
    // What the VM's own settings say of a family leaves rules nothing to say of it.
    if ((family === 4 ? own?.ipv4 : own?.ipv6) !== undefined) continue;
    const before = all.filter(({ address }) => address.family === family);
    const matches = before.map((address) => ({ address, match: bestRule(address, found.network, rules) }));
    if (matches.every(({ match }) => match === undefined)) continue;
    const after = matches.map(({ address, match }) =>
      formatPrefix(match === undefined ? address : moved(address, match)),
    );
    addTo(wanted, family, [...new Set(after)]);
    for (const { match } of matches) {
      if (match === undefined || used.has(match.index)) continue;
      used.add(match.index);
      takeRest(wanted, family, rules[match.index]!);
    }
  }
  return { wanted, used: [...used] };
}

function bestRule(address: IpPrefix, network: string | null, rules: readonly IpRule[]) {
  const fitting = rules.flatMap((rule, index) => {
    if (rule.network !== undefined && rule.network !== network) return [];
    const [from, to] = [parsePrefix(rule.from), parsePrefix(rule.to)];
    if (from === undefined || to === undefined || !contains(from, address.address)) return [];
    return [{ index, from, to, isOwn: rule.network !== undefined }];
  });
  return fitting.toSorted((a, b) => b.from.length - a.from.length || Number(b.isOwn) - Number(a.isOwn))[0];
}

function addTo(wanted: Omit<WantedAddresses, 'nic'>, family: IpFamily, addresses: string[]): void {
  if (family === 4) wanted.ipv4 = addresses;
  else wanted.ipv6 = addresses;
}

function takeRest(wanted: Omit<WantedAddresses, 'nic'>, family: IpFamily, rule: IpRule): void {
  if (rule.gateway !== undefined) {
    if (family === 4) wanted.gateway4 ??= rule.gateway;
    else wanted.gateway6 ??= rule.gateway;
  }
  if (rule.dns !== undefined) wanted.dns = joined(wanted.dns, rule.dns);
  if (rule.search !== undefined) wanted.search = joined(wanted.search, rule.search);
}

function joined(a: readonly string[] | undefined, b: readonly string[]): string[] {
  return [...new Set([...(a ?? []), ...b])].slice(0, LIST_MAX);
}

function withoutNic(own: WantedAddresses | undefined): Omit<WantedAddresses, 'nic'> {
  if (own === undefined) return {};
  const { nic: _, ...rest } = own;
  return rest;
}

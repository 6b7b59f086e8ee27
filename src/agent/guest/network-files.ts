/** What is written in a guest for the interfaces that a plan gives it, for each tool that may be there. Pure. */
import type { GuestInterface } from '#/control/guest-tasks.ts';

/** An interface as the guest names it, and as it is to be. */
export type WantedNic = Omit<GuestInterface, 'nic'> & {
  name: string;
  /** Its MAC address here, and at the protected site: definitions may go by either. */
  macs: string[];
  /** For a guest that does not run, whose names of interfaces are not known: matched by this. */
  byMac?: { mac: string; setName?: string };
};

export function isStatic<T extends string>(addresses: T | string[] | undefined): addresses is string[] {
  return Array.isArray(addresses);
}

function addressesOf({ ipv4, ipv6 }: WantedNic): string[] {
  return [...(isStatic(ipv4) ? ipv4 : []), ...(isStatic(ipv6) ? ipv6 : [])];
}

/** JSON is YAML, and needs no rules of quoting. One file for all interfaces. */
export function netplanFile(nics: readonly WantedNic[], renderer?: string): string {
  const ethernets = nics.map((nic) => {
    const routes = [
      ...(nic.gateway4 ? [{ to: '0.0.0.0/0', via: nic.gateway4 }] : []),
      ...(nic.gateway6 ? [{ to: '::/0', via: nic.gateway6 }] : []),
    ];
    const servers = nic.dns === undefined ? {} : { addresses: nic.dns };
    const search = nic.search === undefined ? {} : { search: nic.search };
    const definition = {
      ...matchOf(nic),
      ...(nic.ipv4 === undefined ? {} : { dhcp4: nic.ipv4 === 'dhcp' }),
      ...(nic.ipv6 === undefined ? {} : { dhcp6: nic.ipv6 === 'dhcp', 'accept-ra': !isStatic(nic.ipv6) }),
      ...(addressesOf(nic).length === 0 ? {} : { addresses: addressesOf(nic) }),
      ...(routes.length === 0 ? {} : { routes }),
      ...(nic.dns === undefined && nic.search === undefined
        ? {}
        : { nameservers: { ...servers, ...search } }),
    };
    return [nic.name, definition] as const;
  });
  const network = {
    version: 2,
    ...(renderer === undefined ? {} : { renderer }),
    ethernets: Object.fromEntries(ethernets),
  };
  return `${JSON.stringify({ network }, null, 2)}\n`;
}

function matchOf({ byMac }: WantedNic): Record<string, unknown> {
  if (byMac === undefined) return {};
  const { mac, setName } = byMac;
  return { match: { macaddress: mac }, ...(setName === undefined ? {} : { 'set-name': setName }) };
}

/** A connection of NetworkManager's that comes before all others of that interface. */
export function networkManagerFile(nic: WantedNic): string {
  return [
    '[connection]',
    `id=antipode-${nic.name}`,
    'type=ethernet',
    ...(nic.byMac === undefined ? [`interface-name=${nic.name}`] : []),
    'autoconnect=true',
    'autoconnect-priority=999',
    '',
    ...(nic.byMac === undefined ? [] : ['[ethernet]', `mac-address=${nic.byMac.mac}`, '']),
    '[ipv4]',
    ...managedFamily(nic.ipv4, nic.gateway4, serversOf(nic, 4)),
    '',
    '[ipv6]',
    ...managedFamily(nic.ipv6, nic.gateway6, serversOf(nic, 6)),
    '',
  ].join('\n');
}

function managedFamily(
  addresses: string[] | 'dhcp' | 'slaac' | undefined,
  gateway: string | null | undefined,
  { dns, search }: { dns: string[]; search: string[] },
): string[] {
  const list = (words: string[]): string => words.map((word) => `${word};`).join('');
  const named = [
    ...(dns.length === 0 ? [] : [`dns=${list(dns)}`]),
    ...(search.length === 0 ? [] : [`dns-search=${list(search)}`]),
  ];
  if (!isStatic(addresses)) return ['method=auto', ...named];
  if (addresses.length === 0) return ['method=disabled'];
  return [
    'method=manual',
    ...addresses.map((address, index) => `address${index + 1}=${address}`),
    ...(gateway ? [`gateway=${gateway}`] : ['never-default=true']),
    ...named,
  ];
}

function serversOf({ dns = [], search = [] }: WantedNic, family: 4 | 6): { dns: string[]; search: string[] } {
  return { dns: dns.filter((address) => address.includes(':') === (family === 6)), search };
}

/** Stanzas of ifupdown's file. */
export function ifupdownStanzas(nics: readonly WantedNic[]): string {
  const lines = nics.flatMap((nic) => [
    '',
    `auto ${nic.name}`,
    ...stanza(nic, { family: 'inet', addresses: nic.ipv4, gateway: nic.gateway4 }),
    ...stanza(nic, { family: 'inet6', addresses: nic.ipv6, gateway: nic.gateway6 }),
  ]);
  return `${lines.join('\n')}\n`;
}

function stanza(
  nic: WantedNic,
  wanted: {
    family: string;
    addresses: string[] | 'dhcp' | 'slaac' | undefined;
    gateway: string | null | undefined;
  },
): string[] {
  const { family, addresses, gateway } = wanted;
  if (addresses === undefined) return [];
  if (!isStatic(addresses))
    return [`iface ${nic.name} ${family} ${addresses === 'slaac' ? 'auto' : addresses}`];
  const [first, ...more] = addresses;
  if (first === undefined) return [`iface ${nic.name} ${family} manual`];
  const { dns, search } = serversOf(nic, family === 'inet' ? 4 : 6);
  return [
    `iface ${nic.name} ${family} static`,
    // Apart, since busybox takes them in no other way.
    `    address ${first.split('/')[0]}`,
    `    netmask ${netmaskOf(first)}`,
    ...(gateway ? [`    gateway ${gateway}`] : []),
    ...more.map((address) => `    up ip address add ${address} dev ${nic.name}`),
    ...(dns.length === 0 ? [] : [`    dns-nameservers ${dns.join(' ')}`]),
    ...(search.length === 0 ? [] : [`    dns-search ${search.join(' ')}`]),
  ];
}

/** In dots for IPv4, as all of them read it. */
function netmaskOf(address: string): string {
  const prefix = Number(address.split('/')[1]);
  if (address.includes(':')) return String(prefix);
  const bytes = [0, 8, 16, 24].map((from) => 256 - 2 ** (8 - Math.min(8, Math.max(0, prefix - from))));
  return bytes.join('.');
}

/** For a guest without any of these tools: what is so until its next start. */
export function ipCommands(nic: WantedNic): string[] {
  const { name } = nic;
  const families = [
    { flag: '-4', addresses: nic.ipv4, gateway: nic.gateway4 },
    { flag: '-6', addresses: nic.ipv6, gateway: nic.gateway6 },
  ];
  const commands = families.flatMap(({ flag, addresses, gateway }) => {
    if (addresses === undefined || addresses === 'slaac') return [];
    const flush = `ip ${flag} address flush dev ${name} scope global`;
    if (!isStatic(addresses)) return [flush, `lease ${flag} ${name}`];
    return [
      flush,
      ...addresses.map((address) => `ip ${flag} address add ${address} dev ${name}`),
      ...(gateway ? [`ip ${flag} route replace default via ${gateway} dev ${name}`] : []),
    ];
  });
  return [`ip link set ${name} up`, ...commands];
}

/** Undefined when no interface says anything of name servers. */
export function resolverFile(nics: readonly WantedNic[]): string | undefined {
  if (nics.every(({ dns, search }) => dns === undefined && search === undefined)) return undefined;
  const search = [...new Set(nics.flatMap((nic) => nic.search ?? []))];
  const dns = [...new Set(nics.flatMap((nic) => nic.dns ?? []))];
  const lines = [
    ...(search.length === 0 ? [] : [`search ${search.join(' ')}`]),
    ...dns.map((ip) => `nameserver ${ip}`),
  ];
  return `${lines.join('\n')}\n`;
}

/** What `ip` shows once it is so. */
export function expectedAddresses(nics: readonly WantedNic[]): { name: string; address: string }[] {
  return nics.flatMap((nic) => addressesOf(nic).map((address) => ({ name: nic.name, address })));
}

/**
 * What is changed in the files of a guest that does not run, so that it comes up with other addresses. Pure.
 *
 * The same files as the agent's way writes (src/agent/guest/customize.sh), but interfaces go by their MAC address:
 * names are given when the guest runs. Only ifupdown knows no other way than names, which the guest's own files tell
 * or which there is but one of.
 */
import type { GuestInterface } from '#/control/guest-tasks.ts';
import {
  ifupdownStanzas,
  netplanFile,
  networkManagerFile,
  resolverFile,
  type WantedNic,
} from '#/agent/guest/network-files.ts';
import { INTERFACES, NETPLAN_DIRECTORY, RESOLVER, type GuestFacts } from './guest-facts.ts';
import { refused } from './guest-tree.ts';
import { namesIn, withoutStanzas } from './ifupdown-text.ts';
import { nameOf, renamedRules } from './interface-names.ts';

export type EditMethod = 'netplan' | 'ifupdown' | 'NetworkManager' | 'cloud-init' | 'none';

export type OfflineNic = Omit<GuestInterface, 'nic'> & {
  /** Its place in the definition, from 0. */
  place: number;
  mac: string;
  /** At the protected site; a test's interface has another. */
  macBefore: string;
};

export type OfflineWish = {
  nics: readonly OfflineNic[];
  /** Of the VM, whether they are given addresses or not. */
  nicCount: number;
  hostName: string | null;
};

export type Edit = {
  method: EditMethod;
  writes: { path: string; content: string; mode: number }[];
  removes: string[];
};

const CLOUD_FILE = '/etc/cloud/cloud.cfg.d/99-antipode.cfg';
const NETPLAN_FILE = `${NETPLAN_DIRECTORY}/99-antipode.yaml`;
const OTHER_KINDS = /\b(wifis|bonds|bridges|vlans|tunnels|vrfs|modems)"?\s*:/;

/** Throws vm_unsupported with what the guest has that is not understood. */
export function decideEdit(facts: GuestFacts, wish: OfflineWish): Edit {
  const method = wish.nics.length === 0 ? 'none' : methodOf(facts);
  const edit = WRITERS[method](facts, wish);
  edit.writes.push(...renamedRules(facts.names, wish.nics));
  if (facts.hasCloudInit) edit.writes.push(cloudFile(edit.method, wish));
  if (wish.hostName !== null) edit.writes.push(...hostFiles(facts, wish.hostName));
  return edit;
}

/** Of what a guest has, that which has the interface in its hands. */
function methodOf(facts: GuestFacts): EditMethod {
  if (facts.hasNetplan && facts.netplan.size > 0) return 'netplan';
  if (facts.hasIfupdown && namesIn(facts.interfaces.values()).length > 0) return 'ifupdown';
  if (facts.hasNetworkManager) return 'NetworkManager';
  if (facts.hasCloudInit) return 'cloud-init';
  throw refused(
    'the guest has no network configuration that is known here',
    'Known are netplan, ifupdown, NetworkManager and cloud-init. Or set customize_by: agent.',
  );
}

const WRITERS: Record<EditMethod, (facts: GuestFacts, wish: OfflineWish) => Edit> = {
  none: () => ({ method: 'none', writes: [], removes: [] }),
  'cloud-init': () => ({ method: 'cloud-init', writes: [], removes: [] }),
  netplan: netplanEdit,
  ifupdown: ifupdownEdit,
  NetworkManager: (_facts, { nics }) => ({
    method: 'NetworkManager',
    writes: nics.map((nic) => ({
      path: `/etc/NetworkManager/system-connections/antipode-${nic.place}.nmconnection`,
      content: networkManagerFile(byMac(nic)),
      mode: 0o600,
    })),
    removes: [],
  }),
};

function netplanEdit({ netplan }: GuestFacts, { nics, nicCount }: OfflineWish): Edit {
  const own = [...netplan].filter(([path, text]) => path !== NETPLAN_FILE && /\bethernets"?\s*:/.test(text));
  const odd = [...netplan].find(([, text]) => OTHER_KINDS.test(text));
  if (odd !== undefined) {
    throw refused(`${odd[0]} has more than plain interfaces (${OTHER_KINDS.exec(odd[1])![1]})`);
  }
  if (own.length > 0 && nics.length < nicCount) {
    throw refused(
      `netplan: addresses are given to ${nics.length} of ${nicCount} interfaces`,
      'Its files are replaced as a whole: give the plan addresses of all interfaces of this VM.',
    );
  }
  const texts = own.map(([, text]) => text).join('\n');
  const renderer = /\brenderer"?\s*:\s*"?(NetworkManager|networkd)\b/.exec(texts)?.[1];
  const setName = /\bset-name"?\s*:\s*["']?([A-Za-z0-9_.-]{1,15})/.exec(texts)?.[1];
  const wanted = nics.map((nic) => byMac(nic, nicCount === 1 ? setName : undefined));
  return {
    method: 'netplan',
    writes: [{ path: NETPLAN_FILE, content: netplanFile(wanted, renderer), mode: 0o600 }],
    removes: own.map(([path]) => path),
  };
}

function ifupdownEdit(facts: GuestFacts, wish: OfflineWish): Edit {
  const known = namesIn(facts.interfaces.values());
  const named = wish.nics.map((nic): WantedNic => ({
    ...nic,
    macs: [],
    name: nameOf(nic, { known, facts, nicCount: wish.nicCount }),
  }));
  const families = new Set([
    ...(named.some(({ ipv4 }) => ipv4 !== undefined) ? ['inet'] : []),
    ...(named.some(({ ipv6 }) => ipv6 !== undefined) ? ['inet6'] : []),
  ]);
  const ours = new Set(named.map(({ name }) => name));
  const writes = [...facts.interfaces].map(([path, text]) => ({
    path,
    content: withoutStanzas(text, ours, families) + (path === INTERFACES ? ifupdownStanzas(named) : ''),
    mode: 0o644,
  }));
  if (!facts.interfaces.has(INTERFACES)) throw refused(`${INTERFACES} is not there`);
  const resolver = resolverFile(named);
  const isOwn = facts.resolver === 'file' || facts.resolver === 'none';
  if (resolver !== undefined && isOwn) writes.push({ path: RESOLVER, content: resolver, mode: 0o644 });
  return { method: 'ifupdown', writes, removes: [] };
}

/** Where another tool has the network, cloud-init is told to leave it alone; else it is told what to make of it. */
function cloudFile(method: EditMethod, { nics, hostName }: OfflineWish): Edit['writes'][number] {
  const own: { network: unknown } = JSON.parse(netplanFile(nics.map((nic) => byMac(nic))));
  const network = {
    'cloud-init': { ...own, updates: { network: { when: ['boot-new-instance', 'boot'] } } },
    none: {},
  };
  const settings = method === 'cloud-init' || method === 'none' ? network[method] : DISABLED;
  const content = { ...settings, preserve_hostname: hostName !== null };
  return { path: CLOUD_FILE, content: `${JSON.stringify(content, null, 2)}\n`, mode: 0o644 };
}
const DISABLED = { network: { config: 'disabled' } };

function hostFiles({ hosts }: GuestFacts, name: string): Edit['writes'] {
  const renamed = hosts
    ?.split('\n')
    .map((line) => (/^\s*127\.0\.1\.1\s/.test(line) ? `127.0.1.1\t${name}` : line))
    .join('\n');
  return [
    { path: '/etc/hostname', content: `${name}\n`, mode: 0o644 },
    ...(renamed === undefined ? [] : [{ path: '/etc/hosts', content: renamed, mode: 0o644 }]),
  ];
}

function byMac(nic: OfflineNic, setName?: string): WantedNic {
  const { place, mac, macBefore: _before, ...wanted } = nic;
  return {
    ...wanted,
    name: `antipode${place}`,
    macs: [mac],
    byMac: { mac, ...(setName === undefined ? {} : { setName }) },
  };
}

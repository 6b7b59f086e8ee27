/** Puts a recovered VM's network interfaces on this site's networks, or a test's on the test's own. Pure. */
import { Failure } from '#/lib/failure.ts';
import {
  attributeOf,
  childOf,
  childrenOf,
  ensureElement,
  removeElement,
  setAttributes,
} from '#/libvirt/xml.ts';
import type { XmlElement } from '#/libvirt/xml.ts';
import type { Adaptation } from './adapt-definition.ts';
import type { HomeNetworks } from './home-networks.ts';

/** What ties an interface to the protected site's host. */
const HOST_PARTS = [
  'source',
  'target',
  'virtualport',
  'backend',
  'actual',
  'portForward',
  'portForwards',
  'vlan',
  'teaming',
  'ip',
  'route',
  // Programs that the host would run.
  'script',
  'downscript',
];

/**
 * Production keeps its MAC addresses: leases and licences hang on them. Throws Failure vm_unsupported for an interface
 * whose network is mapped to nothing, before anything was made.
 */
export function adaptInterfaces(
  devices: XmlElement,
  adaptation: Adaptation & { home: HomeNetworks },
  notes: string[],
): void {
  for (const element of childrenOf(devices, 'interface')) {
    const network = networkOf(element);
    if (goesHome(element, network, adaptation)) continue;
    const { isolated } = adaptation;
    if (isolated !== undefined) {
      const mac = childOf(element, 'mac');
      // libvirt draws a new address for an interface that has none.
      if (mac !== undefined) removeElement(mac);
    }
    if (isolated?.kind === 'one') {
      connect(element, isolated.network);
      continue;
    }
    if (element.getAttribute('type') === 'user' && isolated === undefined) {
      dropHostParts(element);
      continue;
    }
    const mapped = Object.hasOwn(adaptation.networks, network) ? adaptation.networks[network] : undefined;
    const target = mapped ?? adaptation.defaultNetwork;
    if (target === null) {
      throw new Failure(
        'vm_unsupported',
        `adapt definition: network ${network} of the VM is mapped to none here`,
        {
          hint: `Map it: recover with --network ${network}=NAME, naming a network of this site's host.`,
        },
      );
    }
    if (mapped === undefined && network !== target)
      notes.push(`Network ${network} is not mapped; ${target} is used.`);
    connect(element, isolated === undefined ? target : isolated.counterpart(target));
  }
}

/**
 * Remembers where the interface was, and puts it where it was when the VM last ran at the site that it goes to, unless
 * a person has mapped its network. A test goes nowhere.
 */
function goesHome(
  element: XmlElement,
  network: string,
  { home, isolated, journey, networks }: Adaptation & { home: HomeNetworks },
): boolean {
  if (journey === undefined || isolated !== undefined) return false;
  home.remember(journey.fromSiteId, element);
  if (Object.hasOwn(networks, network) || !home.knows(journey.toSiteId, element)) return false;
  dropHostParts(element);
  return home.restore(journey.toSiteId, element);
}

/** The networks of this host that the adapted interfaces are on, each once. */
export function networksIn(devices: XmlElement): string[] {
  const names = childrenOf(devices, 'interface')
    .filter((element) => element.getAttribute('type') === 'network')
    .map((element) => attributeOf(childOf(element, 'source'), 'network') ?? '');
  return [...new Set(names)];
}

/** Of all interfaces in their order; empty for one that has none. */
export function macsIn(devices: XmlElement): string[] {
  return childrenOf(devices, 'interface').map((element) =>
    (attributeOf(childOf(element, 'mac'), 'address') ?? '').toLowerCase(),
  );
}

/** The name people map by: libvirt's network, or else the host's bridge or device. */
function networkOf(element: XmlElement): string {
  const source = childOf(element, 'source');
  for (const attribute of ['network', 'bridge', 'dev', 'portgroup']) {
    const name = attributeOf(source, attribute) ?? '';
    if (name !== '') return name;
  }
  return element.getAttribute('type') ?? 'unknown';
}

function connect(element: XmlElement, network: string): void {
  dropHostParts(element);
  setAttributes(element, { type: 'network' });
  setAttributes(ensureElement(element, 'source'), { network });
}

function dropHostParts(element: XmlElement): void {
  for (const name of HOST_PARTS) {
    for (const found of childrenOf(element, name)) removeElement(found);
  }
}

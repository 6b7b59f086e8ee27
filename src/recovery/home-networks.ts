/**
 * What the network interfaces of a VM were connected to at each site that it has run at, in its definition's metadata,
 * so that a VM which comes home is on its own networks again without any mapping (docs/failback.md). Pure.
 *
 * Only what connects an interface is remembered, never what the host would run. It is matched by MAC address, which
 * a VM keeps through recoveries.
 */
import {
  appendCopy,
  appendElement,
  attributeOf,
  childOf,
  childrenOf,
  parseXml,
  removeElement,
  setAttributes,
} from '#/libvirt/xml.ts';
import type { XmlElement } from '#/libvirt/xml.ts';

export const HOME_NAMESPACE = 'urn:antipode:home:1';

/** From which site to which the VM goes. */
export type Journey = { fromSiteId: string; toSiteId: string };

/** What says where an interface is connected. */
const PARTS = ['source', 'vlan', 'virtualport'];
const TYPES: readonly string[] = ['network', 'bridge', 'direct', 'user'];
/** Of one VM, over all sites; the oldest go first. */
const REMEMBERED_MAX = 1024;

export class HomeNetworks {
  readonly #element: XmlElement;

  private constructor(element: XmlElement) {
    this.#element = element;
  }

  /** What the definition remembers; nothing when it does not. */
  static of(domain: XmlElement): HomeNetworks {
    const metadata = childOf(domain, 'metadata');
    const kept = metadata && childrenOf(metadata).find((found) => found.namespaceURI === HOME_NAMESPACE);
    const text = `<antipode-home:networks xmlns:antipode-home="${HOME_NAMESPACE}"/>`;
    const element = parseXml(text, 'remembered networks');
    for (const known of kept === undefined ? [] : childrenOf(kept, 'interface')) appendCopy(element, known);
    return new HomeNetworks(element);
  }

  /** An element of its own, to be copied into a definition's metadata; undefined when nothing is remembered. */
  get element(): XmlElement | undefined {
    return childrenOf(this.#element).length === 0 ? undefined : this.#element;
  }

  /** Remembers how the interface is connected at the site. */
  remember(siteId: string, element: XmlElement): void {
    const mac = macOf(element);
    const type = element.getAttribute('type') ?? '';
    if (mac === undefined || !TYPES.includes(type)) return;
    const known = this.#find(siteId, mac);
    if (known !== undefined) removeElement(known);
    const [oldest, ...others] = childrenOf(this.#element, 'interface');
    if (oldest !== undefined && others.length + 1 >= REMEMBERED_MAX) removeElement(oldest);
    const kept = appendElement(this.#element, 'interface', { site: siteId, mac, type });
    for (const name of PARTS) {
      const part = childOf(element, name);
      if (part !== undefined) appendCopy(kept, part);
    }
  }

  /** Connects the interface, which has none of those parts any more, as it was at the site. False when not known. */
  restore(siteId: string, element: XmlElement): boolean {
    const mac = macOf(element);
    const known = mac === undefined ? undefined : this.#find(siteId, mac);
    const type = known?.getAttribute('type') ?? '';
    if (known === undefined || !TYPES.includes(type)) return false;
    setAttributes(element, { type });
    for (const name of PARTS) {
      const part = childOf(known, name);
      if (part !== undefined) appendCopy(element, part);
    }
    return true;
  }

  knows(siteId: string, element: XmlElement): boolean {
    const mac = macOf(element);
    return mac !== undefined && this.#find(siteId, mac) !== undefined;
  }

  #find(siteId: string, mac: string): XmlElement | undefined {
    return childrenOf(this.#element, 'interface').find(
      (known) => known.getAttribute('site') === siteId && known.getAttribute('mac') === mac,
    );
  }
}

function macOf(element: XmlElement): string | undefined {
  return attributeOf(childOf(element, 'mac'), 'address')?.toLowerCase();
}

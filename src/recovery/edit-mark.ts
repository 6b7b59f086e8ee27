/**
 * What an edit of its disks leaves in a VM's definition: at which site its addresses were those kept in the guest,
 * so that they are put back when it comes home; and the MAC addresses that an edit goes by. Pure.
 */
import { createHash } from 'node:crypto';
import {
  appendCopy,
  appendElement,
  attributeOf,
  childOf,
  childrenOf,
  ensureElement,
  parseXml,
  removeElement,
  serializeXml,
} from '#/libvirt/xml.ts';
import type { XmlElement } from '#/libvirt/xml.ts';

export const EDIT_NAMESPACE = 'urn:antipode:edit:1';
const WHAT = 'the definition of a VM';

/** The site that an edited VM has left; undefined when its disks carry no edit. */
export function editHomeIn(definition: string): string | undefined {
  const mark = markIn(parseXml(definition, WHAT, 'domain'));
  return mark === undefined ? undefined : (attributeOf(mark, 'home') ?? undefined);
}

/** Whether a VM of this definition runs without KVM. */
export function isEmulatedIn(definition: string): boolean {
  return parseXml(definition, WHAT, 'domain').getAttribute('type') !== 'kvm';
}

/** The definition with that mark, or without any. */
export function withEditHome(definition: string, home: string | undefined): string {
  const domain = parseXml(definition, WHAT, 'domain');
  const old = markIn(domain);
  if (old !== undefined) removeElement(old);
  if (home !== undefined) {
    const text = `<antipode-edit:addresses xmlns:antipode-edit="${EDIT_NAMESPACE}"/>`;
    const mark = parseXml(text, 'a mark of an edit');
    mark.setAttribute('home', home);
    appendCopy(ensureElement(domain, 'metadata'), mark);
  }
  return serializeXml(domain);
}

/** With a MAC address for each interface that has none, the same at every try of the task; and all of them in order. */
export function withMacs(definition: string, taskId: string): { xml: string; macs: string[] } {
  const domain = parseXml(definition, WHAT, 'domain');
  const devices = childOf(domain, 'devices');
  const macs = (devices === undefined ? [] : childrenOf(devices, 'interface')).map((element, index) => {
    const known = attributeOf(childOf(element, 'mac'), 'address')?.toLowerCase();
    if (known !== undefined) return known;
    const hash = createHash('sha256').update(`antipode mac ${taskId} ${index}`).digest('hex');
    // QEMU's own range, as libvirt takes it.
    const mac = `52:54:00:${hash.slice(0, 2)}:${hash.slice(2, 4)}:${hash.slice(4, 6)}`;
    appendElement(element, 'mac', { address: mac });
    return mac;
  });
  return { xml: serializeXml(domain), macs };
}

function markIn(domain: XmlElement): XmlElement | undefined {
  const metadata = childOf(domain, 'metadata');
  return metadata && childrenOf(metadata).find((found) => found.namespaceURI === EDIT_NAMESPACE);
}

/**
 * Takes out of a definition what ties a VM to the protected site's host, or what would reach into this one: a
 * definition comes from a peer, and must not choose which of this host's files and programs its guest gets. Pure.
 */
import {
  appendElement,
  attributeOf,
  childOf,
  childrenOf,
  removeElement,
  setAttributes,
  setText,
  textOf,
} from '#/libvirt/xml.ts';
import type { XmlElement } from '#/libvirt/xml.ts';
import type { TargetHost } from './adapt-definition.ts';

const QEMU_NAMESPACE = 'http://libvirt.org/schemas/domain/qemu/1.0';

/** Device elements that pass something of a host through, with the words for the note. */
const PASSED_THROUGH = {
  hostdev: 'A host device',
  filesystem: 'A shared directory',
  redirdev: 'A redirected USB device',
  smartcard: 'A smart card reader',
} as const;

export function adaptHostParts(
  domain: XmlElement,
  devices: XmlElement,
  host: TargetHost,
  notes: string[],
): void {
  for (const child of childrenOf(domain)) {
    if (child.namespaceURI !== QEMU_NAMESPACE) continue;
    removeElement(child);
    notes.push(
      `Arguments for the protected site's QEMU (${child.nodeName}) were taken out of the definition.`,
    );
  }
  for (const [name, words] of Object.entries(PASSED_THROUGH)) {
    for (const element of childrenOf(devices, name)) {
      removeElement(element);
      notes.push(`${words} of the protected site was taken out of the definition.`);
    }
  }
  for (const tpm of childrenOf(devices, 'tpm')) {
    if (attributeOf(childOf(tpm, 'backend'), 'type') === 'emulator') continue;
    removeElement(tpm);
    notes.push("The TPM was the protected site's own chip; the VM starts without one.");
  }
  adaptEmulator(devices, host, notes);
  adaptPlacement(domain, notes);
  adaptCharacterDevices(devices, notes);
  adaptGraphics(devices, notes);
}

/** Without an emulator libvirt takes the host's own. Any other program that the definition names is not run. */
function adaptEmulator(devices: XmlElement, host: TargetHost, notes: string[]): void {
  const emulator = childOf(devices, 'emulator');
  const path = textOf(devices, 'emulator') ?? '';
  if (emulator === undefined || host.emulators.includes(path)) return;
  removeElement(emulator);
  notes.push(`The emulator ${path} is not one of this host's, so libvirt chooses one.`);
}

/** Processors and memory nodes are the other host's, and a VM pinned to what is not here does not start. */
function adaptPlacement(domain: XmlElement, notes: string[]): void {
  let isPinned = false;
  const drop = (element: XmlElement): void => {
    removeElement(element);
    isPinned = true;
  };
  for (const vcpu of childrenOf(domain, 'vcpu')) {
    if (attributeOf(vcpu, 'cpuset') === undefined) continue;
    setAttributes(vcpu, { cpuset: undefined });
    isPinned = true;
  }
  for (const tune of childrenOf(domain, 'cputune')) {
    for (const pin of ['vcpupin', 'emulatorpin', 'iothreadpin']) childrenOf(tune, pin).forEach(drop);
  }
  childrenOf(domain, 'numatune').forEach(drop);
  if (isPinned)
    notes.push("The VM was pinned to its host's processors or memory nodes; here it runs anywhere.");
}

/** Terminals and what has no other end on the host. */
const KEPT_TYPES = new Set(['pty', 'null', 'vc', 'spicevmc', 'spiceport', 'qemu-vdagent']);

/** Consoles that write to files, or listen or connect elsewhere, become plain pseudo-terminals. */
function adaptCharacterDevices(devices: XmlElement, notes: string[]): void {
  for (const kind of ['serial', 'console', 'parallel']) {
    for (const element of childrenOf(devices, kind)) {
      const type = element.getAttribute('type') ?? 'pty';
      for (const name of ['log', 'source', 'protocol']) dropChildren(element, name);
      element.removeAttribute('tty');
      if (KEPT_TYPES.has(type)) continue;
      element.setAttribute('type', 'pty');
      notes.push(`A ${kind} device of type ${type} reached beyond the VM; it is a terminal now.`);
    }
  }
  // A channel without a source gets a socket of libvirt's own choice.
  for (const channel of childrenOf(devices, 'channel')) {
    const type = channel.getAttribute('type') ?? 'unix';
    for (const name of ['log', 'source', 'protocol']) dropChildren(channel, name);
    if (type === 'unix' || KEPT_TYPES.has(type)) continue;
    channel.setAttribute('type', 'unix');
    notes.push(`A channel of type ${type} reached beyond the VM; it is a socket of libvirt's now.`);
  }
}

/**
 * Displays listen on a Unix socket of libvirt's own, and on nothing else: a port would be open to everybody on the host
 * or beyond it, and its password is the protected site's. People reach them through the manager, virsh or SSH.
 *
 * A VM with SPICE alone gets a VNC display beside it, which consoles are made of. One without any stays without: with a
 * display, libvirt would give it a graphics card that it never had.
 */
function adaptGraphics(devices: XmlElement, notes: string[]): void {
  const types = new Set<string>();
  for (const graphics of childrenOf(devices, 'graphics')) {
    const type = graphics.getAttribute('type') ?? '';
    if (type !== 'vnc' && type !== 'spice') continue;
    types.add(type);
    const listens = childrenOf(graphics, 'listen').map((one) => attributeOf(one, 'type'));
    const isSocket = attributeOf(graphics, 'socket') !== undefined || listens.includes('socket');
    const unset = { port: undefined, tlsPort: undefined, websocket: undefined, autoport: undefined };
    setAttributes(graphics, { ...unset, listen: undefined, socket: undefined, passwd: undefined });
    setAttributes(graphics, { passwdValidTo: undefined, connected: undefined, defaultMode: undefined });
    dropChildren(graphics, 'listen');
    // Channels of SPICE that must be encrypted refuse a socket, which needs no encryption.
    dropChildren(graphics, 'channel');
    appendElement(graphics, 'listen', { type: 'socket' });
    if (!isSocket) notes.push(`The ${type} display listens on a Unix socket of libvirt's here, on no port.`);
  }
  if (types.has('spice') && !types.has('vnc')) {
    appendElement(appendElement(devices, 'graphics', { type: 'vnc' }), 'listen', { type: 'socket' });
  }
}

/** A clone with the UUID of another VM in its firmware tables is refused by libvirt. */
export function adaptIdentity(domain: XmlElement, uuid: string): void {
  for (const sysinfo of childrenOf(domain, 'sysinfo')) {
    for (const entry of childOf(sysinfo, 'system') ? childrenOf(childOf(sysinfo, 'system')!, 'entry') : []) {
      if (attributeOf(entry, 'name') === 'uuid') setText(entry, uuid);
    }
  }
  // A guest that knows generation ids must see that its past was rolled back; libvirt draws a new one.
  for (const generation of childrenOf(domain, 'genid')) setText(generation, '');
}

function dropChildren(element: XmlElement, name: string): void {
  for (const found of childrenOf(element, name)) removeElement(found);
}

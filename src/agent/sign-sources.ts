/** By what a VM can tell that its guest runs, as its definition says. */
import { attributeOf, childOf, childrenOf, parseXml } from '#/libvirt/xml.ts';

export type SignSources = { hasSerial: boolean; hasAgent: boolean };

const AGENT_CHANNEL = 'org.qemu.guest_agent.0';

export function signSources(definition: string): SignSources {
  const devices = childOf(parseXml(definition, 'the definition of a recovered VM', 'domain'), 'devices');
  if (devices === undefined) return { hasSerial: false, hasAgent: false };
  const terminals = [...childrenOf(devices, 'serial'), ...childrenOf(devices, 'console')];
  return {
    hasSerial: terminals.some((device) => attributeOf(device, 'type') === 'pty'),
    hasAgent: childrenOf(devices, 'channel').some(
      (channel) => attributeOf(childOf(channel, 'target'), 'name') === AGENT_CHANNEL,
    ),
  };
}

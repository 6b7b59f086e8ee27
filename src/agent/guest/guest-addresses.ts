/** Where a guest can be reached: its interfaces as the definition has them, with what addresses are known of each. */
import { Type } from 'typebox';
import { failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { attributeOf, childOf, childrenOf, parseXml } from '#/libvirt/xml.ts';
import { callAgent } from './agent-call.ts';
import { isLinkLocal, type Subnet } from './subnet.ts';

export type GuestNic = {
  mac: string;
  /** libvirt's network, when it is on one. */
  network: string | undefined;
  addresses: Subnet[];
};

/** As the guest names and sees them. */
export type ToldInterface = { name: string; mac: string; addresses: Subnet[] };

const INTERFACES_MAX = 256;
const ADDRESSES_MAX = 64;
const Interfaces = Type.Array(
  Type.Object({
    name: Type.String({ maxLength: 64 }),
    'hardware-address': Type.Optional(Type.String({ maxLength: 64 })),
    'ip-addresses': Type.Optional(
      Type.Array(
        Type.Object({ 'ip-address': Type.String({ maxLength: 64 }), prefix: Type.Integer({ minimum: 0 }) }),
      ),
    ),
  }),
);

/** What the guest's agent tells, without loopback and link-local addresses. Throws what `callAgent` throws. */
export async function toldInterfaces(domain: Domain, signal: AbortSignal): Promise<ToldInterface[]> {
  const told = await callAgent(domain, { execute: 'guest-network-get-interfaces' }, Interfaces, signal);
  return told.slice(0, INTERFACES_MAX).map((nic) => ({
    name: nic.name,
    mac: (nic['hardware-address'] ?? '').toLowerCase(),
    addresses: (nic['ip-addresses'] ?? [])
      .slice(0, ADDRESSES_MAX)
      .map(({ 'ip-address': address, prefix }) => ({ address, prefix }))
      .filter(({ address }) => !isLinkLocal(address)),
  }));
}

/** Every interface of a VM that runs; one of which nothing is known has no addresses. */
export async function guestNics(domain: Domain, signal: AbortSignal): Promise<GuestNic[]> {
  const xml = await domain.getXml();
  const nics = nicsIn(xml);
  if (nics.length === 0) return nics;
  const told = [
    ...(isAgentConnected(xml) ? await quietly(() => toldInterfaces(domain, signal)) : []),
    ...(await quietly(() => domain.getInterfaceAddresses('lease', { signal }))),
  ];
  return nics.map((nic) => ({
    ...nic,
    addresses: told.filter(({ mac }) => mac === nic.mac).flatMap(({ addresses }) => addresses),
  }));
}

/** In the order of the definition. */
export function nicsIn(definition: string): GuestNic[] {
  const devices = childOf(parseXml(definition, 'the definition of a VM', 'domain'), 'devices');
  return (devices === undefined ? [] : childrenOf(devices, 'interface')).map((element) => ({
    mac: (attributeOf(childOf(element, 'mac'), 'address') ?? '').toLowerCase(),
    network: attributeOf(childOf(element, 'source'), 'network'),
    addresses: [],
  }));
}

/** As libvirt has seen the guest open its end of the channel. */
export function isAgentConnected(definition: string): boolean {
  return /<target type='virtio' name='org\.qemu\.guest_agent\.0' state='connected'/.test(definition);
}

/** One source of addresses that fails leaves the others. */
async function quietly<T>(ask: () => Promise<T[]>): Promise<T[]> {
  try {
    return await ask();
  } catch (error) {
    const failure = failureIn(error);
    const isLost = ['unreachable', 'cancelled', 'protocol_corrupt'].includes(failure?.code ?? '');
    if (failure === undefined || isLost) throw error;
    return [];
  }
}

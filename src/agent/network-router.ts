/**
 * A router between isolated networks: a network namespace with a port at each, which forwards between them. It has no
 * other interface, so nothing else can be reached through it.
 */
import {
  attachNamespace,
  ensureNamespace,
  giveAddress,
  removeNamespace,
  setInNamespace,
  type BridgePort,
} from './network-namespace.ts';

/** The address is the gateway's, with its prefix length, as the guests of that network know it. */
export type RouterPort = BridgePort & { address: string };

const FORWARDING = ['ipv4/ip_forward=1', 'ipv6/conf/all/forwarding=1'];

/** Each step may have been done before. */
export async function ensureRouter(name: string, ports: readonly RouterPort[]): Promise<void> {
  await ensureNamespace(name);
  for (const setting of FORWARDING) await setInNamespace(name, setting);
  for (const port of ports) {
    await attachNamespace(name, port);
    await giveAddress(name, port.device, port.address);
  }
}

export async function removeRouter(name: string): Promise<void> {
  await removeNamespace(name);
}

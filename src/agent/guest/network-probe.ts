/**
 * Probes a guest over its network: from within an isolated one through a namespace there, otherwise from this host.
 * Any address that answers is enough; an address that the plan gives is the only one that is tried.
 */
import { bridgeOf, isTestNetwork } from '#/agent/recover-network.ts';
import { describe, failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { guestNics, nicsIn, type GuestNic } from './guest-addresses.ts';
import type { GuestContext } from './guest-context.ts';
import { ProbeNamespace } from './probe-namespace.ts';
import { reach, type Reached, type Target } from './reach.ts';
import { subnetOf, type Subnet } from './subnet.ts';

export type NetworkProbeParts = Omit<Target, 'address'> & {
  domain: Domain;
  context: GuestContext;
  address: string | undefined;
};

type Place = Subnet & { network: string | undefined };

export class NetworkProbe implements AsyncDisposable {
  readonly #taskId: string;
  readonly #parts: NetworkProbeParts;
  readonly #namespaces = new Map<string, ProbeNamespace>();

  constructor(taskId: string, parts: NetworkProbeParts) {
    this.#taskId = taskId;
    this.#parts = parts;
  }

  async attempt(signal: AbortSignal): Promise<Reached> {
    const { domain, port, http, address } = this.#parts;
    const places = placesOf(await guestNics(domain, signal), address);
    let said = 'the guest has no address that is known here';
    for (const place of places) {
      const target = http === undefined ? { port } : { port, http };
      const reached = await this.#reach(place, target, signal);
      if (reached.isWell) return reached;
      said = reached.said;
    }
    return { isWell: false, said };
  }

  async #reach(place: Place, target: Omit<Target, 'address'>, signal: AbortSignal): Promise<Reached> {
    const { network } = place;
    if (network === undefined || !isTestNetwork(network)) {
      return await reach({ ...target, address: place.address }, signal);
    }
    try {
      const known = this.#namespaces.get(network);
      const namespace = known ?? (await ProbeNamespace.open(this.#taskId, bridgeOf(network)));
      this.#namespaces.set(network, namespace);
      const taken = (): Promise<string[]> => this.#taken(network, signal);
      return await namespace.reach(place, target, { taken, signal });
    } catch (error) {
      signal.throwIfAborted();
      if (failureIn(error)?.code !== 'tool_failed') throw error;
      return { isWell: false, said: describe(error) };
    }
  }

  /** What the router and the other guests of the network have, as far as they tell. */
  async #taken(network: string, signal: AbortSignal): Promise<string[]> {
    const { libvirt, states } = this.#parts.context;
    const taken = states.all().flatMap(({ gateways }) => gateways.map((text) => text.split('/')[0] ?? ''));
    for (const domain of await libvirt.listDomains(['active'])) {
      try {
        if (!nicsIn(await domain.getXml()).some((nic) => nic.network === network)) continue;
        const nics = await guestNics(domain, signal);
        taken.push(...nics.flatMap(({ addresses }) => addresses.map(({ address }) => address)));
      } catch (error) {
        if (failureIn(error)?.code !== 'libvirt_error') throw error;
      }
    }
    return taken;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const namespace of this.#namespaces.values()) await namespace[Symbol.asyncDispose]();
  }
}

/** An address that is given belongs to the interface that has it, or may belong to any. */
function placesOf(nics: readonly GuestNic[], given: string | undefined): Place[] {
  const all = nics.flatMap(({ network, addresses }) => addresses.map((subnet) => ({ ...subnet, network })));
  const wanted = given === undefined ? undefined : subnetOf(given);
  if (wanted === undefined) return all;
  const known = all.filter(({ address }) => address === wanted.address);
  if (known.length > 0) return known;
  const networks = new Set(nics.map(({ network }) => network));
  return [...networks].map((network) => ({ ...wanted, network }));
}

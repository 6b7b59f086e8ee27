/**
 * The isolated networks of tests: bridges without addresses, that reach nothing but the tests' own guests. A test has
 * one to itself, or shares those of its tag with the other tests of its plan, with a router between them on request.
 *
 * Names follow from task or tag, so that what a crash left behind is found again. Making and removing take turns, and
 * a recovery's record names its networks before they are made: none goes while a recovery that is recorded, or any VM,
 * is on it.
 */
import type { RecoverTask, TestNetwork } from '#/control/orders.ts';
import { Mutex } from '#/lib/mutex.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { Network } from '#/libvirt/network.ts';
import type { Isolation } from '#/recovery/adapt-definition.ts';
import { sharedTag, taskTag } from './recover-names.ts';
import type { RecoveryState, RecoveryStates } from './recovery-state.ts';
import { ensureRouter, removeRouter, type RouterPort } from './network-router.ts';

const PREFIX = 'antipode-test-';

/** Where the interfaces of a test go; undefined for a recovery. */
export function isolationOf(task: RecoverTask): Isolation | undefined {
  if (task.purpose !== 'test') return undefined;
  const shared = task.test_network;
  if (shared === undefined) return { kind: 'one', network: `${PREFIX}${taskTag(task.id)}` };
  if (shared.networks === 'one') return { kind: 'one', network: sharedNetwork(shared, '') };
  return { kind: 'each', counterpart: (network) => sharedNetwork(shared, network) };
}

/** All that a test needs beside its VM, given the networks that its interfaces are on. */
export function testNetworksOf(
  task: RecoverTask,
  networks: readonly string[],
): Pick<RecoveryState, 'networks' | 'router' | 'gateways'> {
  if (task.purpose !== 'test') return { networks: [], router: null, gateways: [] };
  const ports = routerPorts(task);
  const router = ports.length === 0 ? null : `antipode-router-${sharedTag(task.test_network?.tag ?? '', '')}`;
  return {
    networks: [...new Set([...networks, ...ports.map(({ network }) => network)])],
    router,
    gateways: ports.map(({ address }) => address),
  };
}

function sharedNetwork({ tag }: TestNetwork, network: string): string {
  return `${PREFIX}${sharedTag(tag, network)}`;
}

function routerPorts(task: RecoverTask): (RouterPort & { network: string })[] {
  const shared = task.test_network;
  if (shared?.router === undefined || shared.networks === 'one') return [];
  return Object.entries(shared.router).map(([name, address]) => {
    const network = sharedNetwork(shared, name);
    return { network, bridge: bridgeOf(network), address, device: `apr${tagOf(network)}` };
  });
}

/** Names of interfaces have 15 bytes at most. */
export function bridgeOf(network: string): string {
  return `apt${tagOf(network)}`;
}

/** Of the networks that were made here for tests. */
export function isTestNetwork(network: string): boolean {
  return network.startsWith(PREFIX);
}

function tagOf(network: string): string {
  return network.slice(PREFIX.length);
}

export class TestNetworks {
  readonly #states: RecoveryStates;
  readonly #turns = new Mutex();

  constructor(states: RecoveryStates) {
    this.#states = states;
  }

  /** `state` is on disk already. */
  ensure(libvirt: Libvirt, task: RecoverTask, state: RecoveryState): Promise<void> {
    return this.#turns.run(async () => {
      for (const name of state.networks) await ensureNetwork(libvirt, name);
      if (state.router !== null) await ensureRouter(state.router, routerPorts(task));
    });
  }

  /**
   * Removes what only this recovery is on, and `forget`s the recovery before anybody else is asked about theirs.
   * Returns what stays because others need it.
   */
  release(libvirt: Libvirt, state: RecoveryState, forget: () => Promise<void>): Promise<string[]> {
    return this.#turns.run(async () => {
      // A discard may come before the agent has looked at what is on its disk.
      await this.#states.load();
      const others = this.#states.all().filter(({ taskId }) => taskId !== state.taskId);
      const definitions = state.networks.length === 0 ? [] : await definitionsOf(libvirt);
      const isNeeded = (name: string): boolean =>
        others.some(({ networks }) => networks.includes(name)) ||
        definitions.some((xml) => xml.includes(`network='${name}'`));
      if (state.router !== null && !others.some(({ router }) => router === state.router)) {
        await removeRouter(state.router);
      }
      const staying = state.networks.filter(isNeeded);
      for (const name of state.networks) if (!staying.includes(name)) await removeNetwork(libvirt, name);
      await forget();
      return staying;
    });
  }
}

async function ensureNetwork(libvirt: Libvirt, name: string): Promise<void> {
  const xml =
    `<network><name>${name}</name><bridge name='${bridgeOf(name)}' stp='off' delay='0'/>` +
    `<mac address='52:54:00:00:00:01'/></network>`;
  const network = (await existingNetwork(libvirt, name)) ?? (await libvirt.defineNetwork(xml));
  if (!(await network.isActive())) await network.start();
}

/** Nothing happens when it is gone already. */
async function removeNetwork(libvirt: Libvirt, name: string): Promise<void> {
  const network = await existingNetwork(libvirt, name);
  if (network === undefined) return;
  if (await network.isActive()) await network.destroy();
  await network.undefine();
}

async function definitionsOf(libvirt: Libvirt): Promise<string[]> {
  const definitions: string[] = [];
  for (const domain of await libvirt.listDomains()) {
    try {
      definitions.push(await domain.getXml());
    } catch (error) {
      if (!hasLibvirtCode(error, LibvirtCode.noDomain)) throw error;
    }
  }
  return definitions;
}

async function existingNetwork(libvirt: Libvirt, name: string): Promise<Network | undefined> {
  try {
    return await libvirt.lookupNetworkByName(name);
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noNetwork)) return undefined;
    throw error;
  }
}

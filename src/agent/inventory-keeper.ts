/** Keeps the inventory of the host: after each change that libvirt tells of, and every INVENTORY_EVERY_MS. */
import type { AgentReport, VmReport } from '#/control/reports.ts';
import type { Clock } from '#/lib/clock.ts';
import { failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { readInventory } from './inventory.ts';
import type { DomainEvent } from '#/libvirt/events.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { hostCapabilities } from './host-capabilities.ts';
import type { LibvirtConnection } from './libvirt-connection.ts';

const INVENTORY_EVERY_MS = 30_000;
/** Changes come in bursts: a start is half a dozen events. */
const GATHER_MS = 200;
const NETWORKS_MAX = 256;

export type HostFacts = Pick<
  AgentReport['host'],
  'libvirt_version' | 'memory_bytes' | 'cpu_count' | 'networks' | 'capabilities'
>;

export class InventoryKeeper {
  readonly #parts: { libvirt: LibvirtConnection; clock: Clock; log: Log; changed: () => void };
  #wakeUp = new AbortController();
  #vms: VmReport[] = [];
  #host: HostFacts = { libvirt_version: '', memory_bytes: 0, cpu_count: 0, networks: [] };

  constructor(parts: { libvirt: LibvirtConnection; clock: Clock; log: Log; changed: () => void }) {
    this.#parts = parts;
  }

  /** As last seen; kept while libvirt is away. */
  get vms(): readonly VmReport[] {
    return this.#vms;
  }

  get host(): HostFacts {
    return this.#host;
  }

  vm(uuid: string): VmReport | undefined {
    return this.#vms.find((vm) => vm.uuid === uuid);
  }

  /** Looks again, unless the event cannot have changed what is reported: each cycle ends a backup of each disk. */
  happened(event: DomainEvent): void {
    if (event.kind !== 'block-job' || event.job !== 'backup') this.refresh();
  }

  /** Something has changed. */
  refresh(): void {
    this.#wakeUp.abort();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { libvirt, clock, log, changed } = this.#parts;
    while (!signal.aborted) {
      try {
        await libvirt.ready(signal);
        this.#wakeUp = new AbortController();
        await this.#look();
        changed();
      } catch (error) {
        if (signal.aborted) return;
        if (failureIn(error) === undefined) throw error;
        log.warning('inventory.failed', failureFields(error));
      }
      const wake = AbortSignal.any([signal, this.#wakeUp.signal]);
      await clock.sleep(INVENTORY_EVERY_MS, wake).catch(() => undefined);
      await clock.sleep(GATHER_MS, signal).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    const libvirt = this.#parts.libvirt.current();
    const { capabilities } = this.#host;
    const [version, node, networks] = await Promise.all([
      libvirt.getLibvirtVersion(),
      libvirt.getNode(),
      libvirt.listNetworks(),
    ]);
    const vms = await readInventory(libvirt);
    // Together: a host that names its libvirt has been looked at.
    this.#vms = vms;
    this.#host = {
      libvirt_version: `${version.major}.${version.minor}.${version.release}`,
      memory_bytes: node.memoryBytes,
      cpu_count: node.cpus,
      networks: networks.map(({ name }) => name).slice(0, NETWORKS_MAX),
      ...(capabilities === undefined ? {} : { capabilities }),
    };
    await this.#lookAtCapabilities(libvirt);
  }

  /** An inventory without them is better than none. */
  async #lookAtCapabilities(libvirt: Libvirt): Promise<void> {
    try {
      this.#host = { ...this.#host, capabilities: await hostCapabilities(libvirt) };
    } catch (error) {
      if (failureIn(error) === undefined || failureIn(error)?.retry === 'reconnect') throw error;
      this.#parts.log.warning('capabilities.failed', failureFields(error));
    }
  }
}

/**
 * The addresses of this host's guests, as they last told them: a recovery at another site changes them by rules, when
 * nobody here can be asked any more. What a guest told stays until it tells something else.
 */
import type { VmReport } from '#/control/reports.ts';
import type { Clock } from '#/lib/clock.ts';
import { failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { guestNics, type GuestNic } from './guest-addresses.ts';

/** Addresses of servers change rarely, and each question takes a turn of the guest's agent. */
const ASK_EVERY_MS = 60_000;
const ADDRESSES_MAX = 32;

type Parts = {
  libvirt: {
    ready(signal: AbortSignal): Promise<unknown>;
    current: () => { lookupDomainByUuid(uuid: string): Promise<Domain> };
  };
  clock: Clock;
  log: Log;
  vms: () => readonly VmReport[];
  changed: () => void;
  ask?: (domain: Domain, signal: AbortSignal) => Promise<GuestNic[]>;
};

export class AddressBook {
  readonly #parts: Parts;
  /** By the VM's UUID, then by MAC address. */
  #known = new Map<string, Map<string, string[]>>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The same VMs, with what is known of their interfaces. */
  added(vms: readonly VmReport[]): VmReport[] {
    return vms.map((vm) => {
      const known = this.#known.get(vm.uuid);
      if (known === undefined || vm.interfaces === undefined) return vm;
      const interfaces = vm.interfaces.map((nic) => ({
        ...nic,
        addresses: known.get(nic.mac) ?? nic.addresses,
      }));
      return { ...vm, interfaces };
    });
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, libvirt, log } = this.#parts;
    while (!signal.aborted) {
      try {
        await libvirt.ready(signal);
        await this.look(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (failureIn(error) === undefined) throw error;
        log.warning('addresses.failed', failureFields(error));
      }
      await clock.sleep(ASK_EVERY_MS, signal).catch(() => undefined);
    }
  }

  /** Asks every guest that runs, one after the other. */
  async look(signal: AbortSignal): Promise<void> {
    const { ask = guestNics, changed, libvirt, vms } = this.#parts;
    const all = vms();
    const here = new Set(all.map(({ uuid }) => uuid));
    this.#known = new Map([...this.#known].filter(([uuid]) => here.has(uuid)));
    let isNew = false;
    for (const { uuid, state } of all) {
      if (state !== 'running' || signal.aborted) continue;
      try {
        const domain = await libvirt.current().lookupDomainByUuid(uuid);
        isNew = this.#take(uuid, await ask(domain, signal)) || isNew;
      } catch (error) {
        // A guest that does not answer leaves what it told before; without libvirt the others cannot be asked either.
        const failure = failureIn(error);
        if (failure === undefined || failure.retry === 'reconnect') throw error;
      }
    }
    if (isNew) changed();
  }

  #take(uuid: string, nics: readonly GuestNic[]): boolean {
    const known = this.#known.get(uuid) ?? new Map<string, string[]>();
    let isNew = false;
    for (const { mac, addresses } of nics) {
      if (addresses.length === 0) continue;
      const texts = addresses.map(({ address, prefix }) => `${address}/${prefix}`);
      const all = [...new Set(texts)].slice(0, ADDRESSES_MAX);
      isNew ||= known.get(mac)?.join() !== all.join();
      known.set(mac, all);
    }
    this.#known.set(uuid, known);
    return isNew;
  }
}

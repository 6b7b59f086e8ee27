/**
 * What a recovery has to know of a VM besides its disks, told by the protected site while that is there: the networks
 * and host that mappings are about, and the addresses that rules change.
 */
import { dirname } from 'node:path';
import type { VmFacts } from '#/api/peer.ts';
import type { Context } from './context.ts';
import type { FoundVm } from './inventory.ts';
import { PROTECTIONS_MAX, VM_FACTS_AT_ONCE, VM_FACTS_TELL_AGAIN_MS } from './limits.ts';
import type { Protection } from './store/protection-store.ts';
import { listReplicas } from './store/replica-store.ts';
import { listVmFacts, putVmFacts } from './store/vm-facts-store.ts';

const COPY_SITES_MAX = 64;

type Told = { protection_id: string; facts: VmFacts };

/** At the protected site: what is to be told next. */
export class VmFactsTold {
  readonly #context: Context;
  readonly #last = new Map<string, { text: string; atMs: number }>();

  constructor(context: Context) {
    this.#context = context;
  }

  /** Of all protections those to one site: what has changed since it was told, or was told long ago. */
  due(protections: readonly Protection[], siteId: string): Told[] {
    const { clock, inventory } = this.#context;
    const vms = new Map(inventory.vms().map((found) => [found.vm.uuid, found]));
    const all = protections.filter(({ state }) => state === 'active');
    const active = all.filter(({ target_site_id: target }) => target === siteId);
    const sites = Map.groupBy(all, ({ vm_uuid: uuid }) => uuid);
    return active
      .flatMap(({ id, vm_uuid: uuid }) => {
        const found = vms.get(uuid);
        if (found === undefined) return [];
        const copies = (sites.get(uuid) ?? []).map(({ target_site_id: target }) => target);
        const facts = { ...factsOf(found), copy_site_ids: copies.toSorted().slice(0, COPY_SITES_MAX) };
        const last = this.#last.get(id);
        const isNew = last?.text !== JSON.stringify(facts);
        const isOld = last !== undefined && clock.now() - last.atMs > VM_FACTS_TELL_AGAIN_MS;
        return isNew || isOld ? [{ protection_id: id, facts }] : [];
      })
      .slice(0, VM_FACTS_AT_ONCE);
  }

  told(all: readonly Told[]): void {
    const atMs = this.#context.clock.now();
    // Of protections that are gone nobody says so here; what is forgotten is told once more.
    if (this.#last.size > PROTECTIONS_MAX) this.#last.clear();
    for (const { protection_id: id, facts } of all) {
      this.#last.set(id, { text: JSON.stringify(facts), atMs });
    }
  }
}

/** At the recovery site. What is told of a protection that has no replica here is dropped: it comes again. */
export async function takeVmFacts(context: Context, siteId: string, all: readonly Told[]): Promise<void> {
  if (all.length === 0) return;
  const { clock, db } = context;
  const own = (await listReplicas(db)).filter(({ source_site_id: source }) => source === siteId);
  const byProtection = new Map(own.map((replica) => [replica.protection_id, replica.id]));
  await db.transaction().execute(async (at) => {
    const known = await listVmFacts(at);
    for (const { protection_id: id, facts } of all) {
      const replicaId = byProtection.get(id);
      if (replicaId === undefined) continue;
      const kept = withAddresses(facts, known.get(replicaId));
      await putVmFacts(at, replicaId, { facts: kept, nowMs: clock.now() });
    }
  });
}

/** Of an interface that tells nothing, as of a VM that is off, what was told last still holds. */
function withAddresses(facts: VmFacts, before: VmFacts | undefined): VmFacts {
  const interfaces = facts.interfaces.map((nic) => {
    const old = before?.interfaces.find(({ mac }) => mac === nic.mac);
    return nic.addresses.length > 0 || old === undefined ? nic : { ...nic, addresses: old.addresses };
  });
  return { ...facts, interfaces };
}

function factsOf({ agent, vm }: FoundVm): VmFacts {
  const directories = vm.disks.map(({ path }) => dirname(path)).filter((path) => path.startsWith('/'));
  return {
    host_name: agent.name,
    memory_bytes: vm.memory_bytes,
    vcpu_count: vm.vcpu_count,
    networks: vm.networks,
    disk_directories: [...new Set(directories)].slice(0, 64),
    ...(vm.hardware === undefined ? {} : { hardware: vm.hardware }),
    interfaces: vm.interfaces ?? [],
  };
}

/**
 * Changing how a VM is protected, while it is: what it will cost is said before, the change is recorded here with the
 * next revision, and the recovery site is told until it has confirmed it. Agent and replication server follow by their
 * orders; what was replicated stays, so nothing is copied again.
 *
 * A site that has been rebuilt may know of a higher revision than the one that changes: the change then takes the one
 * after it, and is told again.
 */
import { ReplicaChanged } from '#/api/peer.ts';
import { PointsLost, type ProtectionChange, type ProtectionChangeCheck } from '#/api/protections.ts';
import type { VmReport } from '#/control/reports.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import type { Context } from './context.ts';
import type { Peers } from './peers.ts';
import { changeWords, type Changed } from './protection-change-words.ts';
import { checkRpo, chooseDisks } from './protection-check.ts';
import type { PeerRow } from './store/peer-store.ts';
import { listProtections, REVISED_IN, reviseProtection, type Protection } from './store/protection-store.ts';

export class ProtectionChanges {
  readonly #context: Context;
  readonly #peers: Peers;

  constructor(context: Context, peers: Peers) {
    this.#context = context;
    this.#peers = peers;
  }

  /** What the change would come to. Throws what speaks against it. */
  async check(protection: Protection, change: ProtectionChange): Promise<ProtectionChangeCheck> {
    const changed = this.#changed(protection, change);
    const isOther = JSON.stringify(changed.retention) !== JSON.stringify(protection.retention);
    const lost = isOther ? await this.#pointsLost(protection, changed) : null;
    const vm = this.#vm(protection);
    const cycle = this.#context.inventory.replicationReport(
      this.#context.inventory.hostOf(protection.vm_uuid),
      protection.replica_id,
    )?.last_cycle;
    const words = changeWords(protection, changed, { lost, vm, cycleMs: cycle?.duration_ms ?? null });
    return { revision: protection.revision, ...words, points_lost: lost };
  }

  /** Records the change and tells the other site; with `told_revision` behind when it did not answer. */
  async change(protection: Protection, change: ProtectionChange): Promise<Protection> {
    const { changes, db, events } = this.#context;
    const changed = this.#changed(protection, change);
    const { changes: words } = changeWords(protection, changed, {
      lost: null,
      vm: this.#vm(protection),
      cycleMs: null,
    });
    if (words.length === 0) return protection;
    const from = protection.revision;
    const next = { ...changed, revision: from + 1 };
    await db.transaction().execute(async (at) => {
      if (!(await reviseProtection(at, { id: protection.id, from }, next)))
        throw outdated(protection, change);
      await events.record(at, {
        kind: 'protection.changed',
        severity: 'info',
        subject: { kind: 'vm', id: protection.vm_uuid },
        message: `VM ${protection.vm_name} is protected in another way: ${words.join(' ')}`,
      });
    });
    changes.notify('orders');
    const peer = await this.#peers.find(protection.target_site_id);
    return this.#tellOne({ ...protection, ...next }, peer);
  }

  /** Tells a site of the changes that it has not confirmed. */
  async tell(peer: PeerRow): Promise<void> {
    const untold = (await listProtections(this.#context.db)).filter(
      (known) =>
        known.target_site_id === peer.site_id &&
        known.told_revision < known.revision &&
        // Before that there is no replica to change.
        (known.state === 'active' || known.state === 'seeding'),
    );
    for (const protection of untold) await this.#tellOne(protection, peer);
  }

  async #tellOne(protection: Protection, peer: PeerRow): Promise<Protection> {
    if (protection.replica_id === null) return protection;
    const { log } = this.#context;
    const disks = this.#disks(protection);
    const { id, retention, revision, rpo_ms } = protection;
    const body = {
      protection_id: id,
      revision,
      rpo_ms,
      retention,
      ...(disks === undefined ? {} : { disks }),
    };
    try {
      const options = { method: 'POST', path: '/peer/v1/replicas/change', body } as const;
      return await this.#told(protection, await this.#peers.call(peer, options, ReplicaChanged));
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      log.info('protection.change_untold', { vm: protection.vm_name, ...failureFields(error) });
      return protection;
    }
  }

  async #told(protection: Protection, reply: ReplicaChanged): Promise<Protection> {
    const { id, revision } = protection;
    const next = reply.is_taken ? { told_revision: revision } : { revision: reply.revision + 1 };
    const isStill = await reviseProtection(this.#context.db, { id, from: revision }, next);
    return isStill ? { ...protection, ...next } : protection;
  }

  /** What it is to be, checked. Throws conflict, usage_invalid, not_found, vm_unsupported. */
  #changed(protection: Protection, change: ProtectionChange): Changed {
    if (!REVISED_IN.some((state) => state === protection.state)) {
      throw new Failure('conflict', `VM ${protection.vm_name} is not protected any more`, {
        hint: 'See how it stands with: antipode status',
      });
    }
    if (change.revision !== protection.revision) throw outdated(protection, change);
    if (change.rpo_ms !== undefined) checkRpo(change.rpo_ms);
    const { added_disks, retention, rpo_ms, scratch_bytes } = { ...protection, ...change };
    return { added_disks, retention, rpo_ms, scratch_bytes, disks: this.#newDisks(protection, change) };
  }

  /** "All" is those of now, by their names: the agent would take it as those of the newest point. */
  #newDisks(protection: Protection, { disks }: ProtectionChange): string[] {
    if (disks === undefined) return protection.disks;
    if (disks.length === 0 && protection.disks.length === 0) return [];
    const vm = this.#vm(protection);
    if (vm === undefined) {
      throw new Failure('unreachable', `no host of this site tells of VM ${protection.vm_name}`, {
        hint: 'Its disks can be chosen once its host reports.',
      });
    }
    return chooseDisks(vm, disks).map(({ key }) => key);
  }

  #disks(protection: Protection): ReturnType<typeof chooseDisks> | undefined {
    const vm = this.#vm(protection);
    if (vm === undefined) return undefined;
    const present = protection.disks.filter((key) => vm.disks.some((disk) => disk.key === key));
    try {
      return chooseDisks(vm, present);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      return undefined;
    }
  }

  #vm(protection: Protection): VmReport | undefined {
    return this.#context.inventory.vms().find(({ vm }) => vm.uuid === protection.vm_uuid)?.vm;
  }

  async #pointsLost(protection: Protection, { retention }: Changed): Promise<PointsLost | null> {
    if (protection.replica_id === null) return null;
    const peer = await this.#peers.find(protection.target_site_id);
    const body = { protection_id: protection.id, retention };
    try {
      const options = { method: 'POST', path: '/peer/v1/replicas/points-lost', body } as const;
      return await this.#peers.call(peer, options, PointsLost);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      return null;
    }
  }
}

function outdated({ revision, vm_name }: Protection, change: ProtectionChange): Failure {
  return new Failure(
    'conflict',
    `the protection of VM ${vm_name} has revision ${revision} by now; the change is of revision ${change.revision}`,
    { hint: 'Look at it again: somebody has changed it meanwhile.' },
  );
}

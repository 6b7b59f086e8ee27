/**
 * Protecting VMs of this site (docs/architecture.md, "Control"). A protection exists at both sites; this one asks,
 * the recovery site answers.
 *
 * The intent is recorded before the other site is asked, so a crash or a lost answer in between leaves a row that says
 * what is to be repeated. `reconcile` repeats it until both sites agree; both requests may be repeated at will.
 */
import { Type } from 'typebox';
import { DEFAULT_RETENTION } from '#/api/common.ts';
import { ReplicaGrant, SyncReply, type GrantState, type ReplicaRequest } from '#/api/peer.ts';
import { DEFAULT_SCRATCH_BYTES, type ProtectionCheck, type ProtectionRequest } from '#/api/protections.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import { isGivenBack } from './given-back.ts';
import { newId } from './ids.ts';
import { PROTECTIONS_MAX } from './limits.ts';
import type { Peers } from './peers.ts';
import { replicaRequest } from './replica-request.ts';
import { checkRpo, checkVm, chooseDisks } from './protection-check.ts';
import { claimOf } from './store/claim-store.ts';
import type { PeerRow } from './store/peer-store.ts';
import {
  addProtection,
  dropProtection,
  listProtections,
  updateProtection,
  type Protection,
} from './store/protection-store.ts';
import { VmFactsTold } from './vm-facts.ts';

export class Protections {
  readonly #context: Context;
  readonly #peers: Peers;
  readonly #claims: Claims;
  /** Why the last try towards the other site failed, by protection. */
  readonly #failures = new Map<string, Failure>();
  /** Why an intent was given up, by VM and site. */
  readonly #refusals = new Map<string, Failure>();

  readonly #facts: VmFactsTold;

  constructor(context: Context, peers: Peers, claims: Claims) {
    this.#facts = new VmFactsTold(context);
    this.#context = context;
    this.#peers = peers;
    this.#claims = claims;
  }

  list(): Promise<Protection[]> {
    return listProtections(this.#context.db);
  }

  failureOf(id: string): Failure | undefined {
    return this.#failures.get(id);
  }

  /** Why the other site did not want the VM when it was last asked again, as far as this process knows. */
  refusalOf(vmUuid: string, siteId: string): Failure | undefined {
    return this.#refusals.get(`${vmUuid} ${siteId}`);
  }

  forgetRefusal(vmUuid: string, siteId: string): void {
    this.#refusals.delete(`${vmUuid} ${siteId}`);
  }

  /** The protection with that id, or of the VM with that name or UUID, to that site if one is named. */
  async find(nameOrId: string, site?: string): Promise<Protection> {
    const peers = await this.#peers.list();
    const siteId = peers.find((peer) => [peer.site_id, peer.site_name].includes(site ?? ''))?.site_id;
    const found = (await this.list()).filter(
      (known) =>
        [known.id, known.vm_uuid, known.vm_name].includes(nameOrId) &&
        (site === undefined || known.target_site_id === siteId),
    );
    if (found.length === 0) {
      throw new Failure('not_found', `this site does not protect "${nameOrId}"`, {
        hint: 'List what it protects with: antipode status. The command belongs at the protected site.',
      });
    }
    if (found.length > 1) {
      throw new Failure('conflict', `"${nameOrId}" is protected to several sites`, {
        hint: 'Name the site it is protected to: --to SITE',
      });
    }
    return found[0]!;
  }

  /**
   * Protects a VM. Resolves with state `active`, or `requested` when the other site went away halfway and will be asked
   * again; `seeding` while that site fills the replica from its old copy, if it was to. Throws, with nothing changed at
   * either site, when something speaks against it.
   */
  async protect(request: ProtectionRequest, isFromOldCopy = false): Promise<Protection> {
    const { ask, former, peer, protection } = await this.#prepare(request, isFromOldCopy);
    await this.#record(protection, former);
    return this.#ask(protection, peer, ask);
  }

  /** The same, but for the last step: what it would come to. Throws what speaks against it, and changes nothing. */
  async check(request: ProtectionRequest): Promise<ProtectionCheck> {
    const { ask, peer, protection } = await this.#prepare(request, false);
    return {
      vm_uuid: protection.vm_uuid,
      vm_name: protection.vm_name,
      site_name: peer.site_name,
      disks: ask.disks.map(({ key, bytes, need_bytes }) => ({ key, bytes, need_bytes })),
    };
  }

  /** Everything that can be found out before anything is changed, at both sites. */
  async #prepare(request: ProtectionRequest, isFromOldCopy: boolean) {
    checkRpo(request.rpo_ms);
    const { agent, vm } = this.#context.inventory.findVm(request.vm);
    if (!this.#context.inventory.isFresh(agent)) {
      throw new Failure('unreachable', `host ${agent.name}, which has VM ${vm.name}, does not report`, {
        hint: `Start the agent on ${agent.name}.`,
      });
    }
    const libvirtFailure = agent.report?.host.libvirt_failure ?? null;
    if (libvirtFailure !== null) {
      throw new Failure('libvirt_error', `libvirt on host ${agent.name}: ${libvirtFailure.message}`, {
        hint: libvirtFailure.hint ?? `Start libvirtd on ${agent.name}.`,
      });
    }
    checkVm(vm);
    const disks = chooseDisks(vm, request.disks);
    const peer = await this.#peers.find(request.site);
    const former = await this.#former(vm.uuid, vm.name, peer);
    await this.#checkClaim(vm);
    const protection: Protection = {
      id: newId(this.#context.random, 'protection'),
      vm_uuid: vm.uuid,
      vm_name: vm.name,
      host_id: agent.id,
      target_site_id: peer.site_id,
      disks: request.disks ?? [],
      rpo_ms: request.rpo_ms,
      added_disks: request.added_disks ?? 'report',
      retention: request.retention ?? DEFAULT_RETENTION,
      scratch_bytes: request.scratch_bytes ?? DEFAULT_SCRATCH_BYTES,
      state: 'requested',
      replica_id: null,
      epoch: 1,
      server: null,
      delete_replica: 0,
      created_ms: this.#context.clock.now(),
      from_old_copy: isFromOldCopy ? 1 : 0,
      revision: 1,
      told_revision: 1,
    };
    const ask = await this.#replicaRequest(protection, disks);
    const checkCall = { method: 'POST', path: '/peer/v1/replicas/check', body: ask } as const;
    await this.#peers.call(peer, checkCall, Type.Object({}));
    return { ask, former, peer, protection };
  }

  async #former(vmUuid: string, vmName: string, peer: PeerRow): Promise<Protection | undefined> {
    const all = await this.list();
    if (all.length >= PROTECTIONS_MAX) {
      throw new Failure('limit_exceeded', `this site protects ${PROTECTIONS_MAX} VMs already`);
    }
    const former = all.find((known) => known.vm_uuid === vmUuid && known.target_site_id === peer.site_id);
    if (former === undefined || former.state === 'superseded') return former;
    throw new Failure(
      'already_exists',
      former.state === 'removing'
        ? `the former protection of VM ${vmName} to ${peer.site_name} is still being removed`
        : `VM ${vmName} is protected to site ${peer.site_name} already`,
      { hint: `To change how: antipode set ${vmName} --rpo 30s` },
    );
  }

  /** A copy that has yielded is not to be protected: the one that runs is, or this one is released first. */
  async #checkClaim(vm: { uuid: string; name: string }): Promise<void> {
    const claim = await this.#claims.find(vm.uuid);
    if (claim === undefined || claim.site_id === this.#context.identity.siteId) return;
    const peers = await this.#peers.list();
    const site = peers.find((known) => known.site_id === claim.site_id)?.site_name ?? claim.site_id;
    throw new Failure('conflict', `VM ${vm.name} runs at site ${site} since epoch ${claim.epoch}`, {
      hint: `Protect it there. To run this copy again instead: antipode fence release ${vm.name}`,
    });
  }

  async #replicaRequest(protection: Protection, disks: ReplicaRequest['disks']): Promise<ReplicaRequest> {
    const record = await this.#claims.find(protection.vm_uuid);
    const isRaised = record !== undefined && record.epoch > 1;
    return { ...replicaRequest(protection, disks), ...(isRaised ? { claim: claimOf(record) } : {}) };
  }

  async #record(protection: Protection, former: Protection | undefined): Promise<void> {
    const { db, events } = this.#context;
    try {
      await db.transaction().execute(async (at) => {
        if (former !== undefined) await dropProtection(at, former.id);
        await addProtection(at, protection);
        await events.record(at, {
          kind: 'protection.requested',
          severity: 'info',
          subject: { kind: 'vm', id: protection.vm_uuid },
          message: `VM ${protection.vm_name} is to be protected with an RPO of ${protection.rpo_ms} ms`,
        });
      });
    } catch (error) {
      // Two requests for one VM at the same time: the table holds one row for a VM and a site.
      const isThere = (await this.list()).some(
        (known) => known.vm_uuid === protection.vm_uuid && known.target_site_id === protection.target_site_id,
      );
      if (!isThere) throw error;
      throw new Failure('already_exists', `VM ${protection.vm_name} is being protected already`, {
        cause: error,
      });
    }
  }

  /** The recovery site's refusal removes the intent; its silence leaves the intent to be repeated. */
  async #ask(protection: Protection, peer: PeerRow, body: ReplicaRequest): Promise<Protection> {
    const { id } = protection;
    try {
      const options = { method: 'POST', path: '/peer/v1/replicas', body } as const;
      return await this.#activate(protection, await this.#peers.call(peer, options, ReplicaGrant));
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      this.#failures.set(id, failure);
      if (failure.retry !== 'never' || failure.code === 'certificate_invalid') return protection;
      await dropProtection(this.#context.db, id);
      this.#failures.delete(id);
      throw failure;
    }
  }

  async #activate(protection: Protection, grant: ReplicaGrant): Promise<Protection> {
    const { changes, db, events } = this.#context;
    const state = grant.is_seeding === true ? 'seeding' : 'active';
    const { replica_id, epoch, server } = grant;
    const change = { state, replica_id, epoch, server } as const;
    await this.#claims.claim(protection, {
      epoch: grant.epoch,
      raise: false,
      relatedSiteId: protection.target_site_id,
    });
    await db.transaction().execute(async (at) => {
      // Who removed the protection meanwhile has the last word.
      const from = ['requested', 'seeding', 'active'] as const;
      const isStill = await updateProtection(at, { id: protection.id, from }, change);
      if (!isStill || protection.state === state) return;
      const vm = `VM ${protection.vm_name}`;
      const note = typeof grant.note === 'string' ? `; at the other site, ${grant.note}` : '';
      await events.record(at, {
        kind: `protection.${state}`,
        severity: 'info',
        subject: { kind: 'vm', id: protection.vm_uuid },
        message:
          state === 'seeding'
            ? `the other site fills the replica of ${vm} from its old copy`
            : `${vm} is protected with an RPO of ${protection.rpo_ms} ms${note}`,
      });
    });
    this.#failures.delete(protection.id);
    this.forgetRefusal(protection.vm_uuid, protection.target_site_id);
    changes.notify('orders');
    return { ...protection, ...change };
  }

  /** Replication stops at once; the row goes when the other site has let go as well. */
  async unprotect(protection: Protection, isDeleteReplica: boolean): Promise<Protection | undefined> {
    const { changes, db, events } = this.#context;
    const removing = {
      ...protection,
      state: 'removing' as const,
      delete_replica: isDeleteReplica ? 1 : 0,
    };
    await db.transaction().execute(async (at) => {
      const from = ['requested', 'seeding', 'active', 'superseded', 'removing'] as const;
      const change = { state: removing.state, delete_replica: removing.delete_replica };
      await updateProtection(at, { id: protection.id, from }, change);
      await events.record(at, {
        kind: 'protection.removing',
        severity: 'info',
        subject: { kind: 'vm', id: protection.vm_uuid },
        message: `VM ${protection.vm_name} is no longer protected`,
      });
    });
    changes.notify('orders');
    const peer = await this.#peers.find(protection.target_site_id);
    return (await this.#release(removing, peer)) ? undefined : removing;
  }

  async #release(protection: Protection, peer: PeerRow): Promise<boolean> {
    const body = { protection_id: protection.id, delete_replica: protection.delete_replica === 1 };
    try {
      const options = { method: 'POST', path: '/peer/v1/replicas/release', body } as const;
      await this.#peers.call(peer, options, Type.Object({}));
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      this.#failures.set(protection.id, failure);
      return false;
    }
    await dropProtection(this.#context.db, protection.id);
    this.#failures.delete(protection.id);
    return true;
  }

  /** Repeats what a site has not answered yet, and takes over what changed there. One paired site at a time. */
  async reconcile(peer: PeerRow): Promise<void> {
    const { config } = this.#context;
    const all = await this.list();
    const own = all.filter((known) => known.target_site_id === peer.site_id);
    const vms = this.#facts.due(all, peer.site_id);
    const body = { site_name: config.siteName, protection_ids: own.map(({ id }) => id), vms };
    const options = { method: 'POST', path: '/peer/v1/sync', body } as const;
    const { protections: states } = await this.#peers.call(peer, options, SyncReply);
    this.#facts.told(vms);
    for (const [index, protection] of own.entries()) {
      if (protection.state === 'removing') await this.#release(protection, peer);
      else if (['requested', 'seeding'].includes(protection.state)) await this.#askAgain(protection, peer);
      else if (states[index] !== undefined) await this.#follow(protection, states[index], peer);
    }
  }

  async #askAgain(protection: Protection, peer: PeerRow): Promise<void> {
    const { db, events, inventory } = this.#context;
    const vm = inventory.vms().find((known) => known.vm.uuid === protection.vm_uuid)?.vm;
    if (vm === undefined) return;
    try {
      const disks = chooseDisks(vm, protection.disks);
      await this.#ask(protection, peer, await this.#replicaRequest(protection, disks));
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      await dropProtection(db, protection.id);
      if (this.#refusals.size >= PROTECTIONS_MAX) this.#refusals.clear();
      this.#refusals.set(`${protection.vm_uuid} ${protection.target_site_id}`, failure);
      await events.record(db, {
        kind: 'protection.refused',
        severity: 'error',
        subject: { kind: 'vm', id: protection.vm_uuid },
        message: `VM ${protection.vm_name} is not protected: ${failure.message}`,
      });
    }
  }

  /**
   * Of a VM that the other site has given back, after it had claimed it: the replica that it keeps is taken up again,
   * as it was. What the other site still has against it, such as the copy that it has just removed, passes.
   */
  async #restore(protection: Protection, peer: PeerRow): Promise<void> {
    const { db, inventory, log } = this.#context;
    const found = inventory.vms().find(({ vm }) => vm.uuid === protection.vm_uuid);
    if (found === undefined || !(await isGivenBack(this.#context, this.#claims, protection))) return;
    try {
      const disks = chooseDisks(found.vm, protection.disks);
      const plain: Protection = { ...protection, from_old_copy: 0 };
      const body = await this.#replicaRequest(plain, disks);
      const grant = await this.#peers.call(
        peer,
        { method: 'POST', path: '/peer/v1/replicas', body },
        ReplicaGrant,
      );
      const change = { state: 'requested', from_old_copy: 0 } as const;
      if (!(await updateProtection(db, { id: protection.id, from: ['superseded'] }, change))) return;
      await this.#activate({ ...plain, state: 'requested' }, grant);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      log.info('protection.restore', { vm: protection.vm_name, ...failureFields(error) });
    }
  }

  /** What the recovery site decided about a protection of ours is what counts: it has the replica. */
  async #follow(protection: Protection, { state, grant }: GrantState, peer: PeerRow): Promise<void> {
    if (protection.state === 'superseded' && state === 'kept') return this.#restore(protection, peer);
    if (protection.state !== 'active') return;
    if (state === 'active') {
      const isSame =
        grant === null ||
        (grant.epoch === protection.epoch &&
          JSON.stringify(grant.server) === JSON.stringify(protection.server));
      if (!isSame) await this.#activate(protection, grant);
      return;
    }
    const { changes, db, events } = this.#context;
    const isRecovered = state === 'recovered';
    await db.transaction().execute(async (at) => {
      const change = { state: 'superseded' } as const;
      if (!(await updateProtection(at, { id: protection.id, from: ['active'] }, change))) return;
      await events.record(at, {
        kind: isRecovered ? 'protection.superseded' : 'protection.lost',
        severity: 'error',
        subject: { kind: 'vm', id: protection.vm_uuid },
        message: isRecovered
          ? `VM ${protection.vm_name} was recovered at the other site: this copy must not run, and is not replicated`
          : `the recovery site no longer keeps the replica of VM ${protection.vm_name}`,
      });
    });
    changes.notify('orders');
  }
}

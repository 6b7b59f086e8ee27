/**
 * Protecting a VM that was recovered here the other way round: to the site that it came from, with the settings of the
 * replica that it was recovered from, in deltas against the old copy there (docs/failback.md).
 */
import type { ProtectionRequest } from '#/api/protections.ts';
import type { ReprotectionRequest, SeedView } from '#/api/reprotections.ts';
import { Check } from 'typebox/value';
import type { VmReport } from '#/control/reports.ts';
import { SeedResult } from '#/control/seed-tasks.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import type { Peers } from './peers.ts';
import type { Protections } from './protections.ts';
import type { Replicas } from './replicas.ts';
import type { Seeds } from './seeds.ts';
import type { PeerRow } from './store/peer-store.ts';
import type { Protection } from './store/protection-store.ts';
import type { ReplicaRecord } from './store/replica-store.ts';

type Parts = {
  peers: Peers;
  claims: Claims;
  protections: Protections;
  replicas: Replicas;
  seeds: Seeds;
};

export class Reprotections {
  readonly #context: Context;
  readonly #parts: Parts;

  constructor(context: Context, parts: Parts) {
    this.#context = context;
    this.#parts = parts;
  }

  /** Throws, with nothing changed at either site, when something speaks against it. */
  async start(request: ReprotectionRequest): Promise<Protection> {
    const { peers, protections, replicas } = this.#parts;
    const replica = await replicas.find(request.vm);
    const { vm } = await this.#checkRunsHere(replica);
    const peer = await peers.find(replica.source_site_id);
    await this.#waitForYield(peer, replica);
    const asked: ProtectionRequest = {
      vm: replica.vm_uuid,
      site: replica.source_site_id,
      rpo_ms: request.rpo_ms ?? replica.rpo_ms,
      retention: replica.retention,
      disks: replicatedKeys(replica, vm),
    };
    return await protections.protect(asked, true);
  }

  /** How the replica of a VM was filled from its old copy here. */
  async show(vm: string): Promise<SeedView> {
    const replica = await this.#parts.replicas.find(vm);
    const task = await this.#parts.seeds.last(replica.id);
    const report = task?.report ?? null;
    return {
      replica_id: replica.id,
      vm_name: replica.vm_name,
      state: replica.state,
      sequence: replica.seed_sequence,
      note: replica.seed_note,
      host_id: task?.member_id ?? null,
      steps: report?.steps ?? [],
      progress: report?.progress ?? null,
      only_here: Check(SeedResult, report?.result) ? report.result.only_here : null,
      failure: report?.failure ?? null,
    };
  }

  async #checkRunsHere(replica: ReplicaRecord) {
    const { config, identity, inventory } = this.#context;
    const name = replica.vm_name;
    const claim = await this.#parts.claims.find(replica.vm_uuid);
    if (replica.state !== 'recovered' || claim?.site_id !== identity.siteId) {
      throw new Failure('conflict', `VM ${name} was not recovered at site ${config.siteName}`, {
        hint: `It is the VM of another site, or never came from one: antipode protect ${name} --to SITE there.`,
      });
    }
    return inventory.findVm(replica.vm_uuid);
  }

  /** The old copy has to stand still before a replica is filled from it. */
  async #waitForYield(peer: PeerRow, replica: ReplicaRecord): Promise<void> {
    const answer = await this.#parts.claims.askToYield(peer, replica.vm_uuid).catch((error: unknown) => {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      throw new Failure(failure.code, `ask site ${peer.site_name} about its old copy of ${replica.vm_name}`, {
        cause: error,
        hint: failure.hint ?? 'Wait until that site is back.',
      });
    });
    if (answer.state === 'yielded' || answer.state === 'absent') return;
    throw new Failure('conflict', `the old copy of ${replica.vm_name} has not yielded: ${answer.message}`, {
      hint: `See how it stands with: antipode fence, at ${peer.site_name}. Then try again.`,
    });
  }
}

/** The disks that were replicated before; none named means all that the VM has. */
export function replicatedKeys(replica: ReplicaRecord, vm: VmReport): string[] {
  const keys = replica.disks.map(({ key }) => key);
  const able = vm.disks.filter(({ refusal }) => refusal === null).map(({ key }) => key);
  return able.every((key) => keys.includes(key)) ? [] : able.filter((key) => keys.includes(key));
}

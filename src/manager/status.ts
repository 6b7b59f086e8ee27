/**
 * How every protected VM stands, put together from what was reported (I7): what is not known now is `unknown` since
 * the last report, and what was known then is still shown with its age.
 */
import type { VmStatus } from '#/api/status.ts';
import type { FenceReport } from '#/control/reports.ts';
import type { Context } from './context.ts';
import type { AgentMember } from './inventory.ts';
import { problemOf } from './problem.ts';
import type { Protections } from './protections.ts';
import type { RpoWatch } from './rpo-watch.ts';
import { listPeers } from './store/peer-store.ts';
import type { Protection } from './store/protection-store.ts';
import { listReplicas, type ReplicaRecord } from './store/replica-store.ts';

type Known = Pick<VmStatus, 'point' | 'state' | 'progress' | 'failure' | 'notices'>;
const NOTHING: Known = { point: null, state: 'waiting', progress: null, failure: null, notices: [] };

export class Status {
  readonly #context: Context;
  readonly #protections: Protections;
  readonly #watch: RpoWatch;

  constructor(context: Context, protections: Protections, watch: RpoWatch) {
    this.#context = context;
    this.#protections = protections;
    this.#watch = watch;
  }

  async vms(): Promise<VmStatus[]> {
    const { config, db, identity } = this.#context;
    const names = new Map((await listPeers(db)).map((peer) => [peer.site_id, peer.site_name]));
    names.set(identity.siteId, config.siteName);
    const nameOf = (id: string): string => names.get(id) ?? id;
    const protectedHere = (await this.#protections.list()).map((one) => this.#ofProtection(one, nameOf));
    const keptHere = (await listReplicas(db)).map((one) => this.#ofReplica(one, nameOf));
    return [...protectedHere, ...keptHere].toSorted((a, b) => a.vm_name.localeCompare(b.vm_name));
  }

  #ofProtection(protection: Protection, nameOf: (id: string) => string): VmStatus {
    const { config, inventory } = this.#context;
    const agent = inventory.hostOf(protection.vm_uuid) ?? inventory.agent(protection.host_id);
    const report = inventory.replicationReport(agent, protection.replica_id);
    const known: Known = {
      ...NOTHING,
      ...(report === undefined ? {} : { ...report, point: pointOf(report.sequence, report.moment_ms) }),
    };
    const fences = fencesOf(agent, protection.vm_uuid);
    const reconcile = this.#protections.failureOf(protection.id);
    const isFresh = agent !== undefined && inventory.isFresh(agent);
    const isActive = protection.state === 'active';
    return this.#vm(
      {
        ...subjectOf(protection),
        role: 'protected',
        protected_site: config.siteName,
        recovery_site: nameOf(protection.target_site_id),
        protection_id: protection.id,
        replica_id: protection.replica_id,
      },
      {
        ...known,
        state: isActive ? known.state : protection.state,
        failure: known.failure ?? (reconcile === undefined ? null : problemOf(reconcile)),
        notices: [...fences.map((one) => fenceNotice(one, nameOf(one.site_id))), ...known.notices],
      },
      { isFresh: isFresh || !isActive, lastMs: agent?.reportMs ?? protection.created_ms, isActive },
    );
  }

  #ofReplica(replica: ReplicaRecord, nameOf: (id: string) => string): VmStatus {
    const { config, inventory } = this.#context;
    const { server, report, isFresh } = inventory.replicaReport(replica.server_id, replica.id);
    const newest = report?.points.at(-1);
    const isActive = replica.state === 'active';
    return this.#vm(
      {
        ...subjectOf(replica),
        role: 'recovery',
        protected_site: nameOf(replica.source_site_id),
        recovery_site: config.siteName,
        protection_id: replica.protection_id,
        replica_id: replica.id,
      },
      {
        ...NOTHING,
        point: pointOf(newest?.sequence ?? null, newest?.moment_ms ?? null),
        state: isActive || report?.state === 'broken' ? (report?.state ?? 'waiting') : replica.state,
        failure: report?.failure ?? null,
      },
      { isFresh, lastMs: server?.reportMs ?? replica.created_ms, isActive },
    );
  }

  #vm(
    subject: Omit<VmStatus, keyof Known | 'age_ms' | 'rpo' | 'violated_since_ms' | 'unknown_since_ms'>,
    known: Known,
    belief: { isFresh: boolean; lastMs: number; isActive: boolean },
  ): VmStatus {
    const ageMs =
      known.point === null ? null : Math.max(0, this.#context.clock.now() - known.point.moment_ms);
    return {
      ...subject,
      point: known.point,
      age_ms: ageMs,
      rpo: rpoOf(ageMs, subject.rpo_ms, belief),
      violated_since_ms:
        subject.replica_id === null ? null : (this.#watch.violatedSinceMs(subject.replica_id) ?? null),
      state: belief.isFresh ? known.state : 'unknown',
      unknown_since_ms: belief.isFresh ? null : belief.lastMs,
      progress: known.progress,
      failure: known.failure,
      notices: known.notices,
    };
  }
}

/** What the VM's host says of a claim of another site; nothing while this site may run the VM. */
function fencesOf(agent: AgentMember | undefined, vmUuid: string): FenceReport[] {
  return (agent?.report?.fences ?? []).filter((fence) => fence.vm_uuid === vmUuid);
}

function fenceNotice(fence: FenceReport, siteName: string): string {
  const whose = `it runs at site ${siteName} since epoch ${fence.epoch}`;
  if (fence.state === 'failing') {
    return `${whose}, and the copy here MAY RUN AS WELL: ${fence.failure?.message ?? 'its host has not said why'}`;
  }
  const since = fence.yielded_ms === null ? '' : ` at ${new Date(fence.yielded_ms).toISOString()}`;
  return `${whose}; the copy here has yielded${since}, and is ${fence.vm_state}.`;
}

function rpoOf(
  ageMs: number | null,
  rpoMs: number,
  belief: { isFresh: boolean; isActive: boolean },
): VmStatus['rpo'] {
  if (!belief.isActive) return 'none';
  if (!belief.isFresh) return 'unknown';
  if (ageMs === null) return 'none';
  return ageMs <= rpoMs ? 'met' : 'violated';
}

function subjectOf(row: { vm_name: string; vm_uuid: string; rpo_ms: number }) {
  return { vm_name: row.vm_name, vm_uuid: row.vm_uuid, rpo_ms: row.rpo_ms };
}

function pointOf(sequence: number | null, momentMs: number | null): VmStatus['point'] {
  return sequence === null || momentMs === null ? null : { sequence, moment_ms: momentMs };
}

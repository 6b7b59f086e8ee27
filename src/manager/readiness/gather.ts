/**
 * Gathers the situation of a plan from what this manager has: its database, and what programs last reported. Nobody
 * is asked, and nothing is changed.
 */
import { X509Certificate } from 'node:crypto';
import type { VmReadiness } from '#/api/readiness.ts';
import { failureIn } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import type { AgentMember } from '#/manager/inventory.ts';
import type { Peers } from '#/manager/peers.ts';
import type { PlanFacts } from '#/manager/plans/plan-facts.ts';
import { surveyPlan, type ResolvedVm } from '#/manager/plans/resolved-plan.ts';
import { problemOf } from '#/manager/problem.ts';
import { checkReplica, chooseHost } from '#/manager/recovery-check.ts';
import { stillLeft, type LeftOver } from '#/manager/rebuild/left-over.ts';
import type { Job } from '#/manager/store/job-store.ts';
import type { PeerRow } from '#/manager/store/peer-store.ts';
import type { PlanRecord } from '#/manager/store/plan-store.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import type {
  HostSituation,
  HostVm,
  Refusal,
  ServerSituation,
  SiteSituation,
  Situation,
  VmSituation,
} from './situation.ts';

const DAY_MS = 86_400_000;
const PROVEN_FOR_MS = 30 * DAY_MS;
/** Of a VM, so many of its newest points and tests say how it goes. */
const POINTS_MAX = 20;
const TESTS_MAX = 5;
const UP = ['running', 'paused', 'blocked', 'pmsuspended'];

/** What all plans share; read once for a look at all of them. */
export type Common = {
  context: Context;
  peers: Peers;
  facts: PlanFacts;
  paired: readonly PeerRow[];
  /** Newest first. */
  jobs: readonly Job[];
  leftOver: readonly LeftOver[];
};

export function gather(common: Common, plan: PlanRecord): Situation {
  const { context, facts } = common;
  const { problems, resolved } = surveyPlan(plan, facts);
  const replicas = new Map(facts.replicas.map((replica) => [replica.id, replica]));
  const vms = resolved.vms.flatMap((vm) => {
    const replica = replicas.get(vm.replica_id);
    return replica === undefined ? [] : [vmSituation(common, vm, replica)];
  });
  const siteIds = new Set(resolved.vms.map((vm) => vm.source_site_id));
  return {
    nowMs: context.clock.now(),
    plan: { id: plan.id, name: plan.name },
    problems,
    provenForMs: plan.document.proven_for_ms ?? PROVEN_FOR_MS,
    suspend: resolved.suspend,
    vms,
    hosts: context.inventory.agents().map((agent) => hostSituation(context, agent)),
    servers: context.inventory.servers().map((server): ServerSituation => ({
      id: server.id,
      name: server.name,
      isFresh: context.inventory.isFresh(server),
      freeBytes: server.report?.store_free_bytes ?? 0,
      certificateExpiresMs: server.certificateExpiresMs,
    })),
    sites: common.paired
      .filter(({ site_id: id }) => siteIds.has(id))
      .map((peer) => siteSituation(common, peer)),
  };
}

function vmSituation(common: Common, vm: ResolvedVm, replica: ReplicaRecord): VmSituation {
  const { context, facts } = common;
  const { report } = context.inventory.replicaReport(replica.server_id, replica.id);
  const host = tried(() => chooseHost(context, hostRequest(vm), replica));
  const replicaCheck = tried(() => checkReplica(context, replica, undefined));
  const told = facts.vms.get(replica.id);
  const tests = testsOf(common.jobs, replica.id);
  return {
    uuid: vm.vm_uuid,
    name: vm.vm_name,
    priority: vm.priority,
    starts: vm.start === 'on',
    replicaId: replica.id,
    replicaState: replica.state,
    rpoMs: replica.rpo_ms,
    replicaRefusal: 'refusal' in replicaCheck ? replicaCheck.refusal : null,
    hostId: 'refusal' in host ? null : host.value.id,
    hostRefusal: 'refusal' in host ? host.refusal : null,
    serverId: replica.server_id,
    points: (report?.points ?? []).slice(-POINTS_MAX).map((point) => ({
      momentMs: point.moment_ms,
      acknowledgedMs: point.acknowledged_ms,
    })),
    storedBytes: report?.stored_bytes ?? 0,
    memoryBytes: told?.memory_bytes ?? null,
    hardware: told?.hardware ?? null,
    addresses: vm.addresses.flatMap(({ ipv4, ipv6 }) =>
      [ipv4, ipv6].flatMap((addresses) => (Array.isArray(addresses) ? addresses : [])),
    ),
    startsMs: tests.map((test) => test.rto_ms),
    proven: tests[0] ?? null,
    leftOver: stillLeft(common.leftOver, replica.id, { inventory: context.inventory, jobs: common.jobs }),
  };
}

function hostRequest(vm: ResolvedVm) {
  return vm.host === null ? { vm: vm.vm_uuid } : { vm: vm.vm_uuid, host_id: vm.host };
}

/** What a recovery would be refused with. */
function tried<T>(work: () => T): { value: T } | { refusal: Refusal } {
  try {
    return { value: work() };
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined) throw error;
    return { refusal: problemOf(failure) };
  }
}

/** Tests that brought the VM up, not those that left it off, by a plan's run or alone: newest first. */
function testsOf(jobs: readonly Job[], replicaId: string): NonNullable<VmReadiness['proven']>[] {
  return jobs
    .filter((job) => job.replica_id === replicaId && job.request.purpose === 'test')
    .filter(({ request }) => request.start !== false)
    .flatMap((job) => {
      const step = job.steps.find(({ name, state }) => name === 'recover' && state === 'done');
      if (step === undefined || step.ended_ms === null) return [];
      const at = { job_id: job.id, at_ms: step.ended_ms, rpo_ms: null };
      return [{ ...at, rto_ms: Math.max(0, step.ended_ms - job.created_ms) }];
    })
    .slice(0, TESTS_MAX);
}

function hostSituation({ inventory }: Context, agent: AgentMember): HostSituation {
  const host = agent.report?.host;
  return {
    id: agent.id,
    name: agent.name,
    isFresh: inventory.isFresh(agent),
    memoryBytes: host?.memory_bytes ?? 0,
    storageFreeBytes: host?.storage_free_bytes ?? 0,
    storagePath: host?.storage_path ?? '',
    isHookWorking: host?.start_hook?.is_working ?? null,
    capabilities: host?.capabilities ?? null,
    vms: (agent.report?.vms ?? []).map((vm): HostVm => ({
      uuid: vm.uuid,
      name: vm.name,
      isUp: UP.includes(vm.state),
      memoryBytes: vm.memory_bytes,
      addresses: (vm.interfaces ?? []).flatMap(({ addresses }) => addresses),
    })),
    certificateExpiresMs: agent.certificateExpiresMs,
  };
}

function siteSituation({ peers }: Common, peer: PeerRow): SiteSituation {
  return {
    id: peer.site_id,
    name: peer.site_name,
    isReachable: peers.contact(peer.site_id)?.isReachable ?? null,
    authorityExpiresMs: new X509Certificate(peer.ca_pem).validToDate.getTime(),
  };
}

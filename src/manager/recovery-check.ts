/**
 * Whether a recovery can be carried out as asked, decided before anything is changed. Each refusal names the thing and
 * the way out.
 */
import { VmPresence } from '#/api/peer.ts';
import type { RecoveryRequest } from '#/api/recoveries.ts';
import { ROUTER_NETWORKS_MAX } from '#/control/orders.ts';
import type { ReplicaReport } from '#/control/reports.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import type { Context } from './context.ts';
import type { AgentMember, FoundVm } from './inventory.ts';
import type { Peers } from './peers.ts';
import { relatedSites } from './related-sites.ts';
import type { Job } from './store/job-store.ts';
import type { PeerRow } from './store/peer-store.ts';
import type { ReplicaRecord } from './store/replica-store.ts';

const PRESENCE_TIMEOUT_MS = 2000;

/** Throws usage_invalid for a production VM on a test's network, and for a router that has nothing to join. */
export function checkTestNetwork({ purpose, test_network: network }: RecoveryRequest): void {
  if (network === undefined || network === null) return;
  if (purpose !== 'test') {
    throw new Failure('usage_invalid', 'a recovery for production cannot be on a test network', {
      hint: 'Ask for a test, or map its networks.',
    });
  }
  const joined = Object.keys(network.router ?? {}).length;
  if (joined === 0) return;
  if (network.networks === 'one' || joined > ROUTER_NETWORKS_MAX) {
    throw new Failure('usage_invalid', `a router cannot join ${joined} networks of a test`, {
      hint: `It joins up to ${ROUTER_NETWORKS_MAX} of the kind "each".`,
    });
  }
}

/** What its server says of the replica now. Throws unreachable, storage_corrupt, not_found, point_expired. */
export function checkReplica(
  context: Context,
  replica: ReplicaRecord,
  point: number | undefined,
): ReplicaReport {
  const { server, report, isFresh } = context.inventory.replicaReport(replica.server_id, replica.id);
  if (report === undefined || !isFresh) {
    const name = server?.name ?? replica.server_id;
    throw new Failure(
      'unreachable',
      `replication server ${name}, which keeps ${replica.vm_name}, does not report`,
      {
        hint: `Start replication server ${name}. Its directory alone is enough to read: antipode replica --help`,
      },
    );
  }
  if (report.state === 'broken') {
    const reason = report.failure === null ? '' : `: ${report.failure.message}`;
    throw new Failure('storage_corrupt', `the replica of ${replica.vm_name} is broken${reason}`, {
      hint: 'See what is left of it with: antipode replica verify DIRECTORY',
    });
  }
  if (report.point_count === 0) {
    throw new Failure('not_found', `the replica of ${replica.vm_name} has no recovery point yet`, {
      hint: 'Its first copy is under way; follow it with: antipode status --watch',
    });
  }
  const newest = report.points.at(-1)?.sequence ?? 0;
  if (point !== undefined && point > newest && server?.isHeard === false) {
    // What the manager heard last before it was started again may not have been kept.
    throw new Failure(
      'unreachable',
      `replication server ${server.name} has not reported yet since this start`,
      {
        hint: 'Try again in a moment.',
      },
    );
  }
  if (point !== undefined) checkPoint(replica, report, point);
  else checkSeed(replica, report);
  return report;
}

/** What is of an old copy is no state of the VM as it runs at the other site: it is not brought up unasked. */
function checkSeed(replica: ReplicaRecord, { points }: ReplicaReport): void {
  const { seed_sequence: seed, state, vm_name: name } = replica;
  const newest = points.at(-1)?.sequence ?? 0;
  if (state !== 'seeding' && (seed === null || newest > seed)) return;
  throw new Failure('conflict', `the newest point of ${name} is the old copy, not the VM as it runs now`, {
    hint:
      `Nothing that ${name} has written since it runs at the other site is here yet. To bring up a point that is ` +
      `here all the same, name it: --point ${newest}. List them with: antipode points ${name}`,
  });
}

function checkPoint(
  replica: ReplicaRecord,
  { points, point_count: count }: ReplicaReport,
  point: number,
): void {
  if (points.some((known) => known.sequence === point)) return;
  const oldest = points[0]?.sequence ?? 0;
  const newest = points.at(-1)?.sequence ?? 0;
  const hint = `List the points with: antipode points ${replica.vm_name}`;
  if (point > newest) {
    throw new Failure('not_found', `${replica.vm_name} has no point ${point}; the newest is ${newest}`, {
      hint,
    });
  }
  // Only the newest points are reported: of an older one its server has the last word.
  if (point < oldest && count > points.length) return;
  throw new Failure('point_expired', `point ${point} of ${replica.vm_name} was merged away by retention`, {
    hint,
  });
}

/**
 * The host to bring the VM up on: the one asked for, or the alive one with most memory, on the machine of the replica's
 * server: a recovery point is served on a Unix socket there.
 */
export function chooseHost(context: Context, request: RecoveryRequest, replica: ReplicaRecord): AgentMember {
  const { config, inventory } = context;
  const server = inventory.servers().find(({ id }) => id === replica.server_id);
  const serverName = server?.name ?? replica.server_id;
  const isNear = (agent: AgentMember): boolean => agent.report?.host.machine === server?.report?.machine;
  const wanted = request.host_id ?? undefined;
  const alive = inventory.agents().filter((agent) => inventory.isFresh(agent) && agent.report !== undefined);
  if (wanted !== undefined) {
    const host = alive.find((agent) => agent.id === wanted || agent.name === wanted);
    if (host === undefined) {
      throw new Failure('unreachable', `host ${wanted} is not known or does not report`, {
        hint: 'List the hosts with: antipode hosts',
      });
    }
    if (isNear(host)) return host;
    throw new Failure(
      'conflict',
      `host ${wanted} is not the machine of replication server ${serverName}, which keeps ${replica.vm_name}`,
      {
        hint: `Recovery points are served on that machine alone: choose the host there, or leave out --host.`,
      },
    );
  }
  const able = alive
    .filter((agent) => agent.report!.host.libvirt_failure === null)
    .toSorted((a, b) => b.report!.host.memory_bytes - a.report!.host.memory_bytes);
  const near = able.find(isNear);
  if (near !== undefined) return near;
  if (able.length > 0) {
    throw new Failure(
      'unreachable',
      `no host of site ${config.siteName} that is alive is the machine of replication server ${serverName}`,
      {
        hint: `Recovery points are served on that machine alone: start an agent there, or join it as a host.`,
      },
    );
  }
  throw new Failure(
    'unreachable',
    `site ${config.siteName} has no host that is alive, with libvirt running`,
    {
      hint: 'Start an agent here, or join a host: antipode join-token agent',
    },
  );
}

/**
 * Names of VMs here, and of those that recoveries are about to make, are taken; but an old copy of the very VM that a
 * recovery for production brings back, which has yielded, makes room on its host.
 */
export function checkName(
  context: Context,
  name: string,
  jobs: readonly Job[],
  back?: { replica: ReplicaRecord; hostId: string },
): void {
  const { config, inventory } = context;
  const holder = inventory
    .vms()
    .find((known) => known.vm.name === name && !(back !== undefined && makesRoom(known, back)));
  if (holder !== undefined) {
    throw new Failure('already_exists', `host ${holder.agent.name} has a VM ${name} already`, {
      hint: 'Remove or rename it, or bring the VM up under another name: --name NAME',
    });
  }
  const job = jobs.find((known) => known.request.name === name);
  if (job === undefined) return;
  throw new Failure('already_exists', `recovery ${job.id} at ${config.siteName} makes a VM ${name} already`, {
    hint: `Clean it up first: antipode cleanup ${job.id}`,
  });
}

function makesRoom({ agent, vm }: FoundVm, back: { replica: ReplicaRecord; hostId: string }): boolean {
  const { vm_uuid: uuid, source_site_id: siteId } = back.replica;
  const fence = agent.report?.fences?.find((known) => known.vm_uuid === vm.uuid);
  const hasYielded = fence?.state === 'yielded' && fence.site_id === siteId;
  return vm.uuid === uuid && hasYielded && agent.id === back.hostId;
}

/** Two recoveries of one replica for production would make two copies. Tests stand in nobody's way. */
export function checkOthers(replica: ReplicaRecord, jobs: readonly Job[]): void {
  const other = jobs.find((job) => job.replica_id === replica.id && job.request.purpose !== 'test');
  if (other === undefined) return;
  throw new Failure('conflict', `recovery ${other.id} of ${replica.vm_name} is ${other.state}`, {
    hint:
      other.state === 'failed'
        ? `See why with: antipode recoveries ${other.id}. Then: antipode cleanup ${other.id}`
        : `Follow it with: antipode recoveries ${other.id}`,
  });
}

/**
 * I5: a VM that still runs at the protected site, or at a third one, is not taken from there unasked; with `force` its
 * copy yields first. When a site's manager does not answer, the recovery goes on: that is what it is for, and the
 * raised epoch makes what may still run there yield when it is back. Resolves with whether the protected site answered.
 */
export async function checkSource(
  context: Context,
  peers: Peers,
  replica: ReplicaRecord,
  isForced: boolean,
): Promise<'answers' | 'silent'> {
  const related = await relatedSites(context.db, replica.vm_uuid);
  const asked = (await peers.list()).filter(({ site_id: id }) => related.has(id));
  const presences = await Promise.all(asked.map((peer) => presenceAt(context, peers, { peer, replica })));
  for (const [index, presence] of presences.entries()) {
    if (typeof presence === 'object' && !isForced) throw runsAlready(asked[index]!, replica, presence);
  }
  const source = asked.findIndex(({ site_id: id }) => id === replica.source_site_id);
  return source === -1 || presences[source] === 'silent' ? 'silent' : 'answers';
}

/** How a copy stands that is up at a site; else whether the site answers. */
export async function presenceAt(
  context: Context,
  peers: Peers,
  { peer, replica }: { peer: PeerRow; replica: Pick<ReplicaRecord, 'vm_uuid' | 'vm_name'> },
): Promise<VmPresence | 'answers' | 'silent'> {
  try {
    const path = `/peer/v1/vms/${replica.vm_uuid}`;
    const options = { method: 'GET', path, timeoutMs: PRESENCE_TIMEOUT_MS } as const;
    const presence = await peers.call(peer, options, VmPresence);
    const isUp = presence.is_fresh && ['running', 'paused', 'blocked'].includes(presence.state);
    return isUp && presence.has_yielded !== true ? presence : 'answers';
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined) throw error;
    if (failure.retry === 'never' && failure.code !== 'certificate_invalid') return 'answers';
    const { site_name: site } = peer;
    context.log.info('recovery.site_silent', { vm: replica.vm_name, site, ...failureFields(error) });
    return 'silent';
  }
}

export function runsAlready(
  peer: PeerRow,
  replica: Pick<ReplicaRecord, 'vm_name'>,
  { host_name: host, state }: VmPresence,
): Failure {
  return new Failure(
    'conflict',
    `VM ${replica.vm_name} is ${state} at site ${peer.site_name}, on host ${host}`,
    {
      hint:
        'Shut it down there first, so that its last writes come along; or try it beside it with --test. With --force ' +
        'the copy there is paused where it is, and what it has written since the newest point is left behind.',
    },
  );
}

/** What alarms are judged by: what this manager has in memory and in its database. Nobody is asked. */
import type { Context } from '#/manager/context.ts';
import type { AgentMember, ServerMember } from '#/manager/inventory.ts';
import type { Peers } from '#/manager/peers.ts';
import type { Readiness } from '#/manager/readiness/readiness.ts';
import type { Status } from '#/manager/status.ts';
import { listUsers, type UserRow } from '#/manager/store/user-store.ts';
import type { ProgramFacts, SiteFacts } from './judge-alarms.ts';

export type FactParts = { status: Status; peers: Peers; readiness: Readiness };

export async function siteFacts(context: Context, parts: FactParts): Promise<SiteFacts> {
  const { clock, inventory } = context;
  const isFresh = (member: { reportMs: number | undefined }): boolean => inventory.isFresh(member);
  return {
    nowMs: clock.now(),
    vms: await parts.status.vms(),
    cycleMs: new Map([
      ...inventory.agents().flatMap(cyclesOfAgent),
      ...inventory.servers().flatMap(cyclesOfServer),
    ]),
    programs: [
      ...inventory.agents().map((agent) => hostFacts(agent, isFresh(agent))),
      ...inventory.servers().map((server) => serverFacts(server, isFresh(server))),
    ],
    sites: (await parts.peers.list()).map((peer) => ({
      id: peer.site_id,
      name: peer.site_name,
      isReachable: parts.peers.contact(peer.site_id)?.isReachable ?? null,
    })),
    plans: await parts.readiness.list(),
    brokenGlass: (await listUsers(context.db)).flatMap(brokenGlass),
  };
}

/** As long as whoever used it knows the password. */
function brokenGlass(user: UserRow): SiteFacts['brokenGlass'][number][] {
  const { id, name, signed_in_ms: usedMs } = user;
  if (user.is_break_glass === 0 || usedMs === null || usedMs < user.password_ms) return [];
  return [{ id, name, usedMs }];
}

function cyclesOfAgent({ report }: AgentMember): [string, number][] {
  return (report?.replications ?? []).flatMap((one): [string, number][] =>
    one.last_cycle === null ? [] : [[one.replica_id, one.last_cycle.duration_ms]],
  );
}

function cyclesOfServer({ report }: ServerMember): [string, number][] {
  return (report?.replicas ?? []).flatMap((one): [string, number][] => {
    const newest = one.points.at(-1);
    // The first point is a first copy, which no RPO is about.
    if (newest === undefined || one.points.length < 2) return [];
    return [[one.replica_id, newest.acknowledged_ms - newest.moment_ms]];
  });
}

function hostFacts(agent: AgentMember, isFresh: boolean): ProgramFacts {
  const { report } = agent;
  const host = report?.host;
  return {
    kind: 'host',
    ...programFacts(agent, isFresh),
    space: host === undefined ? null : { path: host.storage_path, freeBytes: host.storage_free_bytes },
    libvirtFailure: host?.libvirt_failure?.message ?? null,
    mayRunTwice: (report?.fences ?? [])
      .filter(({ state }) => state === 'failing')
      .map((fence) => ({
        vmUuid: fence.vm_uuid,
        vmName: fence.vm_name,
        message: fence.failure?.message ?? 'its host has not said why',
      })),
  };
}

function serverFacts(server: ServerMember, isFresh: boolean): ProgramFacts {
  const { report } = server;
  return {
    kind: 'replication-server',
    ...programFacts(server, isFresh),
    space: report === undefined ? null : { path: report.store_path, freeBytes: report.store_free_bytes },
    libvirtFailure: null,
    mayRunTwice: [],
  };
}

function programFacts(member: AgentMember | ServerMember, isFresh: boolean) {
  const { id, name, certificateExpiresMs, report } = member;
  return { id, name, isFresh, hasReported: report !== undefined, certificateExpiresMs };
}

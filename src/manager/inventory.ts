/**
 * The programs of this site and what each last reported: in memory as it came, in the database every few seconds.
 *
 * I7: a report is believed while it is fresh. After that, what it said is shown as of then, never as of now.
 */
import type {
  AgentReport,
  ReplicaReport,
  ReplicationReport,
  ServerReport,
  VmReport,
} from '#/control/reports.ts';
import type { MemberKind } from '#/control/join.ts';
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import type { Changes } from './changes.ts';
import { AGE_PEAKS, PROTECTIONS_MAX, REPORT_FRESH_MS, REPORT_KEEP_EVERY_MS } from './limits.ts';
import type { Database } from './store/database.ts';
import { keepReport, listMembers, type MemberRow } from './store/member-store.ts';

export type Member<Report> = {
  id: string;
  name: string;
  joinedMs: number;
  certificateExpiresMs: number;
  report: Report | undefined;
  reportMs: number | undefined;
  /** When the report was last written to the database. */
  keptMs: number;
  /** False while the report is what an earlier process kept, which may be older than what it had heard. */
  isHeard: boolean;
};
export type AgentMember = Member<AgentReport>;
export type ServerMember = Member<ServerReport>;
export type FoundVm = { agent: AgentMember; vm: VmReport };

/** What a report says, by the ids that are asked for: with 10,000 VMs a search of each would be felt. */
const agentIndexes = new WeakMap<AgentReport, ReturnType<typeof indexAgentReport>>();
const serverIndexes = new WeakMap<ServerReport, Map<string, ReplicaReport>>();

export class Inventory {
  readonly #agents = new Map<string, AgentMember>();
  readonly #servers = new Map<string, ServerMember>();
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #changes: Changes;
  /** How old the newest point had become when the next one came, by replica. Kept by nothing: it is for a plot. */
  readonly #peaks = new Map<string, number[]>();

  private constructor(db: Database, clock: Clock, changes: Changes) {
    this.#db = db;
    this.#clock = clock;
    this.#changes = changes;
  }

  static async load(db: Database, clock: Clock, changes: Changes): Promise<Inventory> {
    const inventory = new Inventory(db, clock, changes);
    for (const row of await listMembers(db)) inventory.add(row);
    return inventory;
  }

  add(row: MemberRow): void {
    const member = {
      id: row.id,
      name: row.name,
      joinedMs: row.joined_ms,
      certificateExpiresMs: row.certificate_expires_ms,
      reportMs: row.report_ms ?? undefined,
      keptMs: row.report_ms ?? 0,
      isHeard: false,
    };
    const report: unknown = row.report === null ? undefined : JSON.parse(row.report);
    // The database holds only reports that were checked when they came.
    if (row.kind === 'agent') {
      this.#agents.set(row.id, { ...member, report: report as AgentReport | undefined });
    } else this.#servers.set(row.id, { ...member, report: report as ServerReport | undefined });
  }

  remove(id: string): void {
    this.#agents.delete(id);
    this.#servers.delete(id);
  }

  agents(): AgentMember[] {
    return [...this.#agents.values()];
  }

  servers(): ServerMember[] {
    return [...this.#servers.values()];
  }

  agent(id: string): AgentMember | undefined {
    return this.#agents.get(id);
  }

  server(id: string): ServerMember | undefined {
    return this.#servers.get(id);
  }

  has(kind: MemberKind, id: string): boolean {
    return kind === 'agent' ? this.#agents.has(id) : this.#servers.has(id);
  }

  isFresh(member: { reportMs: number | undefined }): boolean {
    return member.reportMs !== undefined && this.#clock.now() - member.reportMs <= REPORT_FRESH_MS;
  }

  async takeAgentReport(id: string, report: AgentReport): Promise<void> {
    await this.#take(this.#agents.get(id), report);
  }

  async takeServerReport(id: string, report: ServerReport): Promise<void> {
    await this.#take(this.#servers.get(id), report);
  }

  async #take<Report extends AgentReport | ServerReport>(
    member: Member<Report> | undefined,
    report: Report,
  ): Promise<void> {
    if (member === undefined) return;
    const now = this.#clock.now();
    this.#notePeaks(member.report, report, now);
    member.report = report;
    member.reportMs = now;
    member.isHeard = true;
    this.#changes.notify('reports');
    if (now - member.keptMs < REPORT_KEEP_EVERY_MS) return;
    member.keptMs = now;
    await keepReport(this.#db, member.id, { text: JSON.stringify(report), atMs: now });
  }

  /** How old the newest point of a replica had become each time when its host said that the next one is there. */
  agePeaks(replicaId: string | null): number[] {
    return this.#peaks.get(replicaId ?? '') ?? [];
  }

  #notePeaks(before: AgentReport | ServerReport | undefined, now: AgentReport | ServerReport, nowMs: number) {
    if (before === undefined || !('replications' in before) || !('replications' in now)) return;
    const former = indexOfAgent(before)!.replications;
    for (const { replica_id: id, moment_ms: momentMs } of now.replications) {
      const formerMs = former.get(id)?.moment_ms ?? null;
      if (momentMs === null || formerMs === null || momentMs === formerMs) continue;
      if (this.#peaks.size >= PROTECTIONS_MAX) this.#peaks.clear();
      this.#peaks.set(id, [...this.agePeaks(id), Math.max(0, nowMs - formerMs)].slice(-AGE_PEAKS));
    }
  }

  /** Every VM that any host last reported. */
  vms(): FoundVm[] {
    return this.agents().flatMap((agent) => (agent.report?.vms ?? []).map((vm) => ({ agent, vm })));
  }

  /** The VM of that name or UUID, on a host that is alive if there is a choice. Throws not_found, conflict. */
  findVm(nameOrUuid: string): FoundVm {
    const all = this.vms().filter(({ vm }) => vm.uuid === nameOrUuid || vm.name === nameOrUuid);
    const alive = all.filter(({ agent }) => this.isFresh(agent));
    const found = alive.length > 0 ? alive : all;
    if (found.length === 0) {
      throw new Failure('not_found', `no host of this site has a VM "${nameOrUuid}"`, {
        hint: 'List them with: antipode vms',
      });
    }
    if (new Set(found.map(({ vm }) => vm.uuid)).size > 1) {
      const uuids = found.map(({ vm }) => vm.uuid).join(', ');
      throw new Failure('conflict', `several VMs are named "${nameOrUuid}": ${uuids}`, {
        hint: 'Name the one you mean by its UUID.',
      });
    }
    return found[0]!;
  }

  /** Where the VM is now: the host that reports it, alive ones first; undefined when none does. */
  hostOf(vmUuid: string): AgentMember | undefined {
    const hosts = this.agents().filter((agent) => indexOfAgent(agent.report)?.vms.has(vmUuid));
    return hosts.find((agent) => this.isFresh(agent)) ?? hosts[0];
  }

  /** What that host last said of the replication to a replica. */
  replicationReport(agent: AgentMember | undefined, replicaId: string | null): ReplicationReport | undefined {
    return replicaId === null ? undefined : indexOfAgent(agent?.report)?.replications.get(replicaId);
  }

  /** What the replica's server last said of it. */
  replicaReport(serverId: string, replicaId: string) {
    const server = this.#servers.get(serverId);
    const report = indexOfServer(server?.report)?.get(replicaId);
    return { server, report, isFresh: server !== undefined && this.isFresh(server) };
  }
}

function indexOfAgent(report: AgentReport | undefined) {
  if (report === undefined) return undefined;
  const known = agentIndexes.get(report) ?? indexAgentReport(report);
  agentIndexes.set(report, known);
  return known;
}

function indexAgentReport(report: AgentReport) {
  return {
    vms: new Set(report.vms.map((vm) => vm.uuid)),
    replications: new Map(report.replications.map((one) => [one.replica_id, one])),
  };
}

function indexOfServer(report: ServerReport | undefined): Map<string, ReplicaReport> | undefined {
  if (report === undefined) return undefined;
  const known =
    serverIndexes.get(report) ?? new Map(report.replicas.map((replica) => [replica.replica_id, replica]));
  serverIndexes.set(report, known);
  return known;
}

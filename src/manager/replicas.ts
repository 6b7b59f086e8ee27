/**
 * The replicas of this site, as other sites ask for them: accepting, releasing, telling how they stand.
 *
 * Every answer is the same when it is asked for again, since the asking manager repeats what it got no answer to.
 */
import type { GrantState, ReplicaGrant, ReplicaRequest } from '#/api/peer.ts';
import { supersedes } from '#/lib/epoch-claim.ts';
import { Failure } from '#/lib/failure.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import { newId } from './ids.ts';
import type { ServerMember } from './inventory.ts';
import { REPLICAS_MAX } from './limits.ts';
import type { OldCopy, Seeds } from './seeds.ts';
import {
  addReplica,
  dropReplica,
  listReplicas,
  updateReplica,
  type ReplicaRecord,
} from './store/replica-store.ts';
import { jobsInState } from './store/job-store.ts';
import { addTask, tasksOfJob } from './store/task-store.ts';

/** A delete that failed is ordered again after this. */
const DELETE_RETRY_MS = 60_000;
/** States in which a recovery may have a VM on a view of its replica. */
const USING = ['running', 'ready', 'cleaning', 'failed'] as const;

export class Replicas {
  readonly #context: Context;
  readonly #claims: Claims;
  readonly #seeds: Seeds;

  constructor(context: Context, claims: Claims, seeds: Seeds) {
    this.#context = context;
    this.#claims = claims;
    this.#seeds = seeds;
  }

  list(): Promise<ReplicaRecord[]> {
    return listReplicas(this.#context.db);
  }

  /** The replica with that id, or of the VM with that name or UUID. Throws not_found, conflict. */
  async find(nameOrId: string): Promise<ReplicaRecord> {
    const found = (await this.list()).filter(
      (replica) =>
        replica.state !== 'deleting' && [replica.id, replica.vm_uuid, replica.vm_name].includes(nameOrId),
    );
    if (found.length === 0) {
      throw new Failure('not_found', `this site keeps no replica of "${nameOrId}"`, {
        hint: 'List what it keeps with: antipode status. The command belongs at the recovery site.',
      });
    }
    if (found.length > 1) {
      const ids = found.map((replica) => replica.id).join(', ');
      throw new Failure('conflict', `several replicas match "${nameOrId}": ${ids}`, {
        hint: 'Name the one you mean by its id.',
      });
    }
    return found[0]!;
  }

  /** Throws what would keep this site from taking the replica; changes nothing. */
  async check(siteId: string, request: ReplicaRequest): Promise<void> {
    await this.#choose(siteId, request);
  }

  async accept(siteId: string, request: ReplicaRequest): Promise<ReplicaGrant> {
    const { changes, clock, db, events, random } = this.#context;
    const { known, server } = await this.#choose(siteId, request);
    const { copy, note } = this.#seeds.find(siteId, request);
    // Epochs are of the VM, not of a replica: a new one begins where the VM is.
    const epoch = Math.max(known?.epoch ?? 1, request.claim?.epoch ?? 1);
    const isPassedOn = known !== undefined && known.source_site_id !== siteId;
    const wanted = {
      source_site_id: siteId,
      protection_id: request.protection_id,
      vm_name: request.vm_name,
      rpo_ms: request.rpo_ms,
      retention: request.retention,
      disks: request.disks,
      epoch,
      state: copy === undefined ? ('active' as const) : ('seeding' as const),
      seed_sequence: isPassedOn ? this.#newestPoint(known) : null,
      seed_note: note,
      revision: revisionOf(known, request),
    };
    // What is not known yet of who runs the VM is taken before anything is made of it.
    if (isPassedOn) await this.#claims.believe(siteId, request.claim!, request.vm_name);
    if (known !== undefined && isGranted(known, request)) return grantOf(this.#context, known);
    const replica: ReplicaRecord = {
      ...(known ?? { id: newId(random, 'replica'), created_ms: clock.now(), bookmarks: [] }),
      vm_uuid: request.vm_uuid,
      server_id: server.id,
      ...wanted,
    };
    await db.transaction().execute(async (at) => {
      if (known === undefined) await addReplica(at, replica);
      else await updateReplica(at, known.id, wanted);
      if (copy !== undefined) await this.#seeds.order(at, replica, copy);
      await events.record(at, {
        kind: 'replica.accepted',
        severity: 'info',
        subject: { kind: 'replica', id: replica.id },
        message:
          (known === undefined
            ? `a replica of ${request.vm_name} is kept here`
            : `the kept replica of ${request.vm_name} is taken up again`) + filling(copy, note),
      });
    });
    changes.notify('orders');
    return grantOf(this.#context, replica);
  }

  /** The protection is gone; the replica stays as it is, or is deleted. Without such a replica nothing is done. */
  async release(siteId: string, protectionId: string, isDelete: boolean): Promise<void> {
    const replica = (await this.list()).find(
      (known) => known.protection_id === protectionId && known.source_site_id === siteId,
    );
    if (replica === undefined || replica.state === 'deleting') return;
    // What was recovered here is this site's own to decide about.
    if (replica.state === 'recovered') return;
    if (isDelete) await this.delete(replica);
    else await this.#move(replica, 'kept', `${replica.vm_name} is no longer protected; its points are kept`);
  }

  async delete(replica: ReplicaRecord): Promise<void> {
    const jobs = await jobsInState(this.#context.db, USING);
    const waiting = jobs.filter((job) => job.replica_id === replica.id).map(({ id }) => id);
    const when = waiting.length === 0 ? '' : ` once ${waiting.join(', ')} has been cleaned up`;
    await this.#move(replica, 'deleting', `the replica of ${replica.vm_name} is being deleted${when}`);
    await this.carryOutDeletes();
  }

  /**
   * Orders what is still to be deleted, and forgets what its server has deleted. Repeated every few seconds. A VM that
   * runs on a recovery point keeps the replica until it has been cleaned up: its disks would be gone.
   */
  async carryOutDeletes(): Promise<void> {
    const { changes, clock, db } = this.#context;
    const deleting = (await this.list()).filter(({ state }) => state === 'deleting');
    if (deleting.length === 0) return;
    const used = new Set((await jobsInState(db, USING)).map((job) => job.replica_id));
    for (const replica of deleting.filter(({ id }) => !used.has(id))) {
      const tasks = await tasksOfJob(db, `delete-${replica.id}`);
      const last = tasks.at(-1);
      if (last?.state === 'done') {
        await dropReplica(db, replica.id);
        changes.notify('orders');
        continue;
      }
      const isDue = last?.state === 'failed' && clock.now() - last.created_ms > DELETE_RETRY_MS;
      if (last !== undefined && !isDue) continue;
      const id = `delete-${replica.id}-${tasks.length + 1}`;
      await addTask(db, {
        id,
        member_id: replica.server_id,
        job_id: `delete-${replica.id}`,
        body: { id, kind: 'delete_replica', replica_id: replica.id },
        created_ms: clock.now(),
      });
      changes.notify('orders');
    }
  }

  /** How the protections of a site stand here. */
  async states(siteId: string, protectionIds: readonly string[]): Promise<GrantState[]> {
    const own = (await this.list()).filter((replica) => replica.source_site_id === siteId);
    const byProtection = new Map(own.map((replica) => [replica.protection_id, replica]));
    return protectionIds.map((id) => {
      const replica = byProtection.get(id);
      if (replica === undefined) return { protection_id: id, state: 'absent', grant: null };
      const endpoint = this.#context.inventory.server(replica.server_id)?.report?.endpoint;
      const grant = endpoint === undefined ? null : grantOf(this.#context, replica);
      return { protection_id: id, state: replica.state, grant };
    });
  }

  async #choose(
    siteId: string,
    request: ReplicaRequest,
  ): Promise<{ known: ReplicaRecord | undefined; server: ServerMember }> {
    const { config, inventory } = this.#context;
    const all = await this.list();
    if (all.length >= REPLICAS_MAX) {
      throw new Failure('limit_exceeded', `site ${config.siteName} keeps ${REPLICAS_MAX} replicas already`);
    }
    const own = all.find(
      (replica) => replica.vm_uuid === request.vm_uuid && replica.source_site_id === siteId,
    );
    const known = own ?? (await this.#passedOn(siteId, request, all));
    if (known !== undefined && isGranted(known, request)) {
      return { known, server: await this.#serverOf(known) };
    }
    await this.#checkNames(siteId, request, all, known);
    if (known !== undefined) return { known, server: await this.#serverOf(known) };
    const needBytes = request.disks.reduce((sum, disk) => sum + disk.need_bytes, 0);
    const servers = inventory.servers().filter((server) => inventory.isFresh(server));
    const roomy = servers
      .map((server) => ({ server, freeBytes: this.#freeBytes(server, all) }))
      .toSorted((a, b) => b.freeBytes - a.freeBytes)[0];
    if (roomy === undefined) {
      throw new Failure('unreachable', `site ${config.siteName} has no replication server that is alive`, {
        hint: 'Start one there, or join one: antipode join-token replication-server',
      });
    }
    if (roomy.freeBytes < needBytes) {
      throw new Failure(
        'storage_full',
        `the replica of ${request.vm_name} needs ${needBytes} bytes at site ${config.siteName}, ` +
          `and replication server ${roomy.server.name} has ${roomy.freeBytes} free`,
        { hint: 'Free or add space there, or protect fewer disks: --disk vda' },
      );
    }
    return { known: undefined, server: roomy.server };
  }

  /**
   * The replica that another site has written, when the asking one has claimed the VM since: only what differs is sent
   * then, and the older points stay.
   */
  async #passedOn(
    siteId: string,
    { claim, vm_name: name, vm_uuid: uuid }: ReplicaRequest,
    all: readonly ReplicaRecord[],
  ): Promise<ReplicaRecord | undefined> {
    const other = all.find((replica) => replica.vm_uuid === uuid);
    if (other === undefined || claim === undefined) return undefined;
    await this.#claims.verify(siteId, claim);
    const known = await this.#claims.find(uuid);
    const isNewest = known === undefined || claim.signature === known.signature || supersedes(claim, known);
    if (isNewest && claim.epoch > 1 && claim.site_id === siteId) return other;
    throw new Failure('conflict', `VM ${name} is run by another site since epoch ${known?.epoch ?? 1}`, {
      hint: 'See by which with: antipode fence',
    });
  }

  /** Up to it, points are of the site that wrote the replica before: no state of the VM as it runs now. */
  #newestPoint(replica: ReplicaRecord): number | null {
    const { report } = this.#context.inventory.replicaReport(replica.server_id, replica.id);
    return report?.points.at(-1)?.sequence ?? null;
  }

  async #checkNames(
    siteId: string,
    request: ReplicaRequest,
    all: readonly ReplicaRecord[],
    known?: ReplicaRecord,
  ): Promise<void> {
    const { config } = this.#context;
    const claim = await this.#claims.find(request.vm_uuid);
    const site = `site ${config.siteName}`;
    if (known?.state === 'deleting') {
      throw new Failure('replica_busy', `the former replica of ${request.vm_name} is still being deleted`, {
        hint: 'Try again in a moment.',
      });
    }
    // Unless the VM went back since.
    const isBack = claim?.site_id === siteId || (known !== undefined && known.source_site_id !== siteId);
    if (known?.state === 'recovered' && !isBack) {
      throw new Failure('conflict', `VM ${request.vm_name} was recovered at ${site}`, {
        hint: 'It runs there now. Delete that replica there before protecting this copy again.',
      });
    }
    this.#seeds.checkCopies(siteId, request);
    const namesake = all.find((replica) => replica.vm_name === request.vm_name && replica.id !== known?.id);
    if (namesake !== undefined) {
      throw new Failure('already_exists', `${site} keeps a replica of another VM ${request.vm_name}`, {
        hint: `Rename this VM, or delete replica ${namesake.id} there.`,
      });
    }
  }

  async #serverOf(replica: ReplicaRecord): Promise<ServerMember> {
    const { config, inventory } = this.#context;
    const server = inventory.server(replica.server_id);
    if (server?.report !== undefined && inventory.isFresh(server)) return server;
    throw new Failure(
      'unreachable',
      `the replication server of ${replica.vm_name} at ${config.siteName} is down`,
      {
        hint: `Start replication server ${server?.name ?? replica.server_id} there.`,
      },
    );
  }

  /** Free bytes of a server less what first copies that are still under way will take. */
  #freeBytes(server: ServerMember, all: readonly ReplicaRecord[]): number {
    const reports = new Map(server.report?.replicas.map((report) => [report.replica_id, report]));
    const promisedBytes = all
      .filter((replica) => replica.server_id === server.id && replica.state === 'active')
      .filter((replica) => (reports.get(replica.id)?.point_count ?? 0) === 0)
      .map((replica) => {
        const needBytes = replica.disks.reduce((sum, disk) => sum + disk.need_bytes, 0);
        return Math.max(0, needBytes - (reports.get(replica.id)?.stored_bytes ?? 0));
      })
      .reduce((sum, bytes) => sum + bytes, 0);
    return (server.report?.store_free_bytes ?? 0) - promisedBytes;
  }

  async #move(replica: ReplicaRecord, state: ReplicaRecord['state'], message: string): Promise<void> {
    const { changes, db, events } = this.#context;
    await db.transaction().execute(async (at) => {
      await updateReplica(at, replica.id, { state });
      const subject = { kind: 'replica', id: replica.id };
      await events.record(at, { kind: `replica.${state}`, severity: 'info', subject, message });
    });
    changes.notify('orders');
  }
}

/** It was accepted before: whoever asks again gets the same answer. */
function isGranted({ protection_id: id, state }: ReplicaRecord, request: ReplicaRequest): boolean {
  return id === request.protection_id && (state === 'active' || state === 'seeding');
}

/** Another protection counts its changes from the beginning. */
function revisionOf(known: ReplicaRecord | undefined, request: ReplicaRequest): number {
  return known?.protection_id === request.protection_id ? known.revision : 1;
}

function filling(copy: OldCopy | undefined, note: string | null): string {
  if (copy !== undefined) return `, and filled from the old copy on host ${copy.agent.name}`;
  return note === null ? '' : `; ${note}`;
}

function grantOf(context: Context, replica: ReplicaRecord): ReplicaGrant {
  const endpoint = context.inventory.server(replica.server_id)?.report?.endpoint;
  if (endpoint === undefined) {
    throw new Failure('unreachable', `replication server ${replica.server_id} has never reported`);
  }
  const { siteId } = context.identity;
  return {
    replica_id: replica.id,
    epoch: replica.epoch,
    server: { site_id: siteId, server_id: replica.server_id, ...endpoint },
    ...(replica.state === 'seeding' ? { is_seeding: true } : {}),
    note: replica.seed_note,
  };
}

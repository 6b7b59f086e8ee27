/**
 * Filling a replica of this site from the old copy of its VM that a host here still has, so that the site which runs
 * the VM now sends only what differs (docs/failback.md).
 *
 * Invariant: while a replica is `seeding`, only agents of this site may write it; it becomes `active` once the host has
 * ended its task, well or not, and a copy that could not be used costs a first copy and nothing else.
 */
import { Check } from 'typebox/value';
import type { ReplicaRequest } from '#/api/peer.ts';
import { SeedResult, type SeedTask } from '#/control/seed-tasks.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from './context.ts';
import { newId } from './ids.ts';
import type { FoundVm } from './inventory.ts';
import type { Database } from './store/database.ts';
import { listProtections } from './store/protection-store.ts';
import { moveReplica, replicasInState, type ReplicaRecord } from './store/replica-store.ts';
import { addTask, openSeedTasks, tasksOfJob, withdrawTask, type Task } from './store/task-store.ts';

/** A host that is silent for so long is not waited for: the replica gets a first copy. */
const LOST_AFTER_MS = 10 * 60_000;

export type OldCopy = FoundVm & { disks: string[] };

export class Seeds {
  readonly #context: Context;
  readonly #startedMs: number;

  constructor(context: Context) {
    this.#context = context;
    this.#startedMs = context.clock.now();
  }

  /**
   * Throws when a VM of this site is in the way of a replica. A copy of that very VM is not, once it has yielded to the
   * claim of the site that asks and that site asks for the replica to be filled from it.
   */
  checkCopies(siteId: string, request: ReplicaRequest): void {
    const named = this.#context.inventory
      .vms()
      .filter(({ vm }) => vm.uuid === request.vm_uuid || vm.name === request.vm_name);
    for (const found of named) this.#checkCopy(found, siteId, request);
    if (named.length === 0 && request.from_old_copy === true) this.#checkHosts(request);
  }

  #checkCopy({ agent, vm }: FoundVm, siteId: string, request: ReplicaRequest): void {
    const { config, inventory } = this.#context;
    const site = `site ${config.siteName}`;
    if (vm.uuid !== request.vm_uuid || request.claim === undefined) {
      throw new Failure('already_exists', `${site} has a VM ${vm.name} already`, {
        hint: 'Rename or remove that VM, because a recovery would need its name.',
      });
    }
    if (request.from_old_copy !== true) {
      throw new Failure('already_exists', `${site} has the old copy of VM ${request.vm_name} still`, {
        hint: `Fill the replica from it: antipode reprotect ${request.vm_name}. Or remove that copy.`,
      });
    }
    if (!inventory.isFresh(agent)) {
      throw new Failure('unreachable', `host ${agent.name} of ${site} has the old copy and does not report`, {
        hint: `Start the agent on ${agent.name}, so that the copy yields.`,
      });
    }
    if (isYielded({ agent, vm }, siteId, request.claim.epoch)) return;
    const where = `VM ${vm.name} on host ${agent.name}`;
    throw new Failure('replica_busy', `the old copy of ${where} has not yielded yet`, {
      hint: 'See how it stands there with: antipode fence. Then try again.',
    });
  }

  /** A site that has just come back does not know yet what its hosts have: everything would be copied for nothing. */
  #checkHosts(request: ReplicaRequest): void {
    const { config, inventory } = this.#context;
    const silent = inventory.agents().find((agent) => {
      const host = agent.report?.host;
      // An agent that has not reached libvirt since its start has looked at no VM.
      return !inventory.isFresh(agent) || host?.libvirt_version === '' || host?.libvirt_failure !== null;
    });
    if (silent === undefined) return;
    const where = `host ${silent.name} of site ${config.siteName}`;
    throw new Failure(
      'replica_busy',
      `whether ${where} has the old copy of ${request.vm_name} is not known yet`,
      {
        hint:
          'Wait until its agent reports, with libvirt running. To copy everything instead, at the site that runs it: ' +
          `antipode protect ${request.vm_name} --to ${config.siteName}`,
      },
    );
  }

  /** The copy that the replica can be filled from, or why there is none. */
  find(siteId: string, request: ReplicaRequest): { copy: OldCopy | undefined; note: string | null } {
    const { config, inventory } = this.#context;
    if (request.from_old_copy !== true) return { copy: undefined, note: null };
    const first = 'everything is copied';
    const epoch = request.claim?.epoch ?? Infinity;
    const found = inventory
      .vms()
      .find((known) => known.vm.uuid === request.vm_uuid && isYielded(known, siteId, epoch));
    if (found === undefined) {
      return { copy: undefined, note: `site ${config.siteName} has no old copy: ${first}` };
    }
    const disks = request.disks
      .filter(({ key, bytes }) =>
        found.vm.disks.some((disk) => disk.key === key && disk.bytes === bytes && disk.refusal === null),
      )
      .map(({ key }) => key);
    if (disks.length === 0) {
      const why = 'has no disk of the same name and size';
      return { copy: undefined, note: `the old copy on host ${found.agent.name} ${why}: ${first}` };
    }
    return { copy: { ...found, disks }, note: null };
  }

  /** Orders the filling; within the transaction that makes the replica `seeding`. */
  async order(at: Database, replica: ReplicaRecord, copy: OldCopy): Promise<void> {
    const { clock, identity, inventory, random } = this.#context;
    const endpoint = inventory.server(replica.server_id)?.report?.endpoint;
    if (endpoint === undefined) {
      throw new Failure('unreachable', `replication server ${replica.server_id} has never reported`);
    }
    const former = (await listProtections(at)).find(
      (known) => known.vm_uuid === replica.vm_uuid && known.target_site_id === replica.source_site_id,
    );
    const id = newId(random, 'seed');
    const body: SeedTask = {
      id,
      kind: 'seed',
      replica_id: replica.id,
      vm_uuid: replica.vm_uuid,
      vm_name: copy.vm.name,
      disks: copy.disks,
      epoch: replica.epoch,
      server: { site_id: identity.siteId, server_id: replica.server_id, ...endpoint },
      former_replica_id: former?.replica_id ?? null,
    };
    await addTask(at, {
      id,
      member_id: copy.agent.id,
      job_id: jobOf(replica.id),
      body,
      created_ms: clock.now(),
    });
  }

  /** Takes over what hosts have done, and takes back what nobody waits for any more. */
  async carryOut(): Promise<void> {
    const { db } = this.#context;
    const seeding = await replicasInState(db, 'seeding');
    for (const replica of seeding) await this.#look(replica);
    const wanted = new Set(seeding.map(({ id }) => jobOf(id)));
    for (const task of await openSeedTasks(db)) {
      if (wanted.has(task.job_id ?? '')) continue;
      await withdrawTask(db, task.id);
      this.#context.changes.notify('orders');
    }
  }

  /** The last filling of a replica, for people. */
  async last(replicaId: string): Promise<Task | undefined> {
    return (await tasksOfJob(this.#context.db, jobOf(replicaId))).at(-1);
  }

  async #look(replica: ReplicaRecord): Promise<void> {
    const task = await this.last(replica.id);
    if (task === undefined) return this.#end(replica, { sequence: null, note: 'nothing was ordered' });
    if (task.state === 'done') {
      const result = task.report?.result;
      if (Check(SeedResult, result))
        return this.#end(replica, { sequence: result.sequence, ...words(result) });
      return this.#end(replica, { sequence: null, note: 'the host answered in a form not known here' });
    }
    if (task.state === 'failed' || task.state === 'withdrawn') {
      const why = task.report?.failure?.message ?? 'it was taken back';
      return this.#end(replica, { sequence: null, note: `filling it from the old copy failed: ${why}` });
    }
    const { clock, inventory } = this.#context;
    const host = inventory.agent(task.member_id);
    const lastMs = Math.max(host?.reportMs ?? 0, task.created_ms, this.#startedMs);
    if (clock.now() - lastMs < LOST_AFTER_MS) return;
    const note = `host ${host?.name ?? task.member_id} with the old copy does not report`;
    return this.#end(replica, { sequence: null, note });
  }

  async #end(
    replica: ReplicaRecord,
    end: { sequence: number | null; note: string; isOnlyHere?: boolean },
  ): Promise<void> {
    const { changes, db, events } = this.#context;
    const isSeeded = end.sequence !== null;
    const note = isSeeded ? end.note : `${end.note}; everything is copied`;
    await db.transaction().execute(async (at) => {
      const change = { state: 'active', seed_sequence: end.sequence, seed_note: note } as const;
      if (!(await moveReplica(at, { id: replica.id, from: 'seeding' }, change))) return;
      await events.record(at, {
        kind: isSeeded ? 'replica.seeded' : 'replica.seed_failed',
        severity: isSeeded && end.isOnlyHere !== true ? 'info' : 'warning',
        subject: { kind: 'replica', id: replica.id },
        message: `the replica of ${replica.vm_name}: ${note}`,
      });
    });
    changes.notify('orders');
  }
}

function jobOf(replicaId: string): string {
  return `seed-${replicaId}`;
}

function isYielded({ agent, vm }: FoundVm, siteId: string, epoch: number): boolean {
  const fence = agent.report?.fences?.find((known) => known.vm_uuid === vm.uuid);
  return fence?.state === 'yielded' && fence.site_id === siteId && fence.epoch >= epoch;
}

function words({ sequence, only_here: only, only_here_note: why }: SeedResult): {
  note: string;
  isOnlyHere: boolean;
} {
  const kept = `point ${sequence} is the old copy as it was found`;
  if (only === null) return { note: `${kept}; ${why ?? 'it was compared with nothing'}`, isOnlyHere: false };
  if (only.bytes === 0)
    return { note: `${kept}; it has nothing that the other site had not`, isOnlyHere: false };
  const since = new Date(only.after_ms).toISOString();
  return {
    note:
      `${kept}; ${only.bytes} bytes of it, in ${only.extent_count} places, were written after ` +
      `point ${only.sequence} of ${since} and exist nowhere else`,
    isOnlyHere: true,
  };
}

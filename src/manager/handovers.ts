/**
 * The protected site's side of a planned migration, as the recovery site asks for it (src/api/handovers.ts): each
 * request is a task of the host that has the VM.
 *
 * Invariants: only a site that keeps a replica of a VM can ask, and of that VM alone. Asking again orders nothing
 * twice. Once a start was asked for, the shut-down it takes back is ordered no more, not even when it is asked for
 * late.
 */
import { createHash } from 'node:crypto';
import type { HandoverAnswer, HandoverRequest } from '#/api/handovers.ts';
import type { HandoverTask } from '#/control/handover-tasks.ts';
import { Failure } from '#/lib/failure.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import type { Fences } from './fences.ts';
import type { AgentMember } from './inventory.ts';
import { problemOf } from './problem.ts';
import type { Database } from './store/database.ts';
import { listProtections, type Protection } from './store/protection-store.ts';
import { addTask, findTask, tasksOfJob, withdrawTask, type Task } from './store/task-store.ts';

type Asked<Kind extends HandoverRequest['kind']> = Extract<HandoverRequest, { kind: Kind }>;
const TASK_KINDS = { shut_down: 'shut_down', last_cycle: 'final_cycle', start_again: 'start_again' } as const;
/** A migration takes up what was done for it within this time. */
const OTHER_MS = 600_000;
/** Of a start that takes nothing back. */
const NOTHING_DONE: HandoverAnswer = {
  state: 'done',
  note: 'it was not shut down',
  result: { started: false },
  failure: null,
};

export class Handovers {
  readonly #context: Context;
  readonly #claims: Claims;
  readonly #fences: Fences;

  constructor(context: Context, claims: Claims, fences: Fences) {
    this.#context = context;
    this.#claims = claims;
    this.#fences = fences;
  }

  /** Throws, with nothing changed, when something speaks against it. */
  async ask(siteId: string, request: HandoverRequest, signal: AbortSignal): Promise<HandoverAnswer> {
    const protection = await this.#protection(siteId, request);
    const taskId = handoverTaskId(siteId, request.id);
    const known = await findTask(this.#context.db, taskId);
    if (known === undefined) {
      const answer = await this.#order(siteId, request, protection);
      if (answer !== undefined) return answer;
    } else if (
      known.body.kind !== TASK_KINDS[request.kind] ||
      known.job_id !== handoverJobId(siteId, request.vm_uuid)
    ) {
      throw new Failure('conflict', `request ${request.id} was another one before`);
    }
    return this.#wait(taskId, request.wait_ms, signal);
  }

  async #protection(siteId: string, request: HandoverRequest): Promise<Protection> {
    const found = (await listProtections(this.#context.db)).find(
      (known) =>
        known.target_site_id === siteId &&
        known.vm_uuid === request.vm_uuid &&
        known.replica_id === request.replica_id,
    );
    if (found !== undefined) return found;
    throw new Failure(
      'not_found',
      `site ${this.#context.config.siteName} protects no such VM to the asking one`,
      {
        hint: 'It may have been unprotected there meanwhile: antipode status',
      },
    );
  }

  /** Orders the task, or answers at once. */
  async #order(
    siteId: string,
    request: HandoverRequest,
    protection: Protection,
  ): Promise<HandoverAnswer | undefined> {
    switch (request.kind) {
      case 'shut_down':
        return this.#orderShutDown(siteId, request, protection);
      case 'last_cycle':
        return this.#orderLastCycle(siteId, request, protection);
      case 'start_again':
        return this.#orderStart(siteId, request, protection);
    }
  }

  async #orderShutDown(
    siteId: string,
    request: Asked<'shut_down'>,
    protection: Protection,
  ): Promise<HandoverAnswer | undefined> {
    const { db, inventory } = this.#context;
    const { vm_name: name, vm_uuid: uuid } = protection;
    await this.#requireOwn(protection);
    const other = await this.#otherHandover(siteId, protection);
    if (other !== undefined) {
      throw new Failure('conflict', `VM ${name} is being handed over to another site (${other})`, {
        hint: 'Wait for its end, or take that migration back there.',
      });
    }
    const host = inventory.hostOf(uuid);
    if (host === undefined || !inventory.isFresh(host)) return unreachable(protection, host);
    const { mode, timeout_ms } = request;
    const id = handoverTaskId(siteId, request.id);
    const body = { id, kind: 'shut_down', vm_uuid: uuid, vm_name: name, mode, timeout_ms } as const;
    await db.transaction().execute(async (at) => {
      await this.#add(at, siteId, host.id, body);
      await this.#tell(at, siteId, protection, 'it is shut down here, to run there');
    });
    this.#context.changes.notify('orders');
    return undefined;
  }

  async #orderLastCycle(
    siteId: string,
    request: Asked<'last_cycle'>,
    protection: Protection,
  ): Promise<HandoverAnswer | undefined> {
    const { db } = this.#context;
    const { vm_name: name, vm_uuid: uuid } = protection;
    await this.#requireOwn(protection);
    const before = (await tasksOfJob(db, handoverJobId(siteId, uuid))).filter(
      ({ body }) => body.kind === 'shut_down',
    );
    const shutDown = before.at(-1);
    if (shutDown?.state !== 'done') {
      throw new Failure('conflict', `VM ${name} was not shut down before its last cycle`);
    }
    const body = {
      id: handoverTaskId(siteId, request.id),
      kind: 'final_cycle',
      vm_uuid: uuid,
      vm_name: name,
      replica_id: request.replica_id,
      shut_down_task_id: shutDown.id,
    } as const;
    await this.#add(db, siteId, shutDown.member_id, body);
    this.#context.changes.notify('orders');
    return undefined;
  }

  async #orderStart(
    siteId: string,
    request: Asked<'start_again'>,
    protection: Protection,
  ): Promise<HandoverAnswer | undefined> {
    const { changes, db } = this.#context;
    const { vm_name: name, vm_uuid: uuid } = protection;
    const shutDownId = handoverTaskId(siteId, request.shut_down_id);
    const body = {
      kind: 'start_again',
      vm_uuid: uuid,
      vm_name: name,
      shut_down_task_id: shutDownId,
    } as const;
    const shutDown = await findTask(db, shutDownId);
    if (shutDown !== undefined) await this.#takeBack(siteId, protection, request.give_back);
    await db.transaction().execute(async (at) => {
      if (shutDown === undefined) await this.#addTombstone(at, siteId, shutDownId, protection);
      for (const task of await tasksOfJob(at, handoverJobId(siteId, uuid))) {
        const isMeant = task.id === shutDownId || cyclesAfter(task, shutDownId);
        if (isMeant) await withdrawTask(at, task.id);
      }
      if (shutDown === undefined) return;
      await this.#add(at, siteId, shutDown.member_id, { ...body, id: handoverTaskId(siteId, request.id) });
      await this.#tell(at, siteId, protection, 'that is taken back, and it is as it was before');
    });
    changes.notify('orders');
    return shutDown === undefined ? NOTHING_DONE : undefined;
  }

  /** The claim of the other site must not stand against the start. */
  async #takeBack(siteId: string, protection: Protection, isGivenBack: boolean): Promise<void> {
    const claim = await this.#claims.find(protection.vm_uuid);
    if (claim === undefined || claim.site_id === this.#context.identity.siteId) return;
    if (claim.site_id !== siteId || !isGivenBack) return this.#requireOwn(protection);
    await this.#fences.release(protection.vm_uuid, {});
  }

  async #requireOwn(protection: Protection): Promise<void> {
    const claim = await this.#claims.find(protection.vm_uuid);
    if (claim === undefined || claim.site_id === this.#context.identity.siteId) return;
    throw new Failure(
      'conflict',
      `VM ${protection.vm_name} runs at another site since epoch ${claim.epoch}`,
      {
        hint: `See where: antipode fence`,
      },
    );
  }

  /** The id of what is done to this VM for another site, or was a moment ago. */
  async #otherHandover(siteId: string, { vm_uuid: uuid }: Protection): Promise<string | undefined> {
    const { clock, db } = this.#context;
    const sites = new Set((await listProtections(db)).map(({ target_site_id: id }) => id));
    sites.delete(siteId);
    for (const other of sites) {
      const last = (await tasksOfJob(db, handoverJobId(other, uuid))).at(-1);
      if (last === undefined || last.body.kind === 'start_again') continue;
      const isNew = clock.now() - last.created_ms < OTHER_MS;
      if (['ordered', 'running'].includes(last.state) || (last.state === 'done' && isNew)) return last.id;
    }
    return undefined;
  }

  /** A shut-down that is asked for after its start was is not carried out any more. */
  async #addTombstone(at: Database, siteId: string, id: string, protection: Protection): Promise<void> {
    const { host_id: hostId, vm_name, vm_uuid } = protection;
    const body = { id, kind: 'shut_down', vm_uuid, vm_name, mode: 'guest', timeout_ms: 0 } as const;
    await this.#add(at, siteId, hostId, body);
  }

  #add(at: Database, siteId: string, memberId: string, body: HandoverTask): Promise<void> {
    const { clock } = this.#context;
    const job_id = handoverJobId(siteId, body.vm_uuid);
    return addTask(at, { id: body.id, member_id: memberId, job_id, body, created_ms: clock.now() });
  }

  async #tell(at: Database, siteId: string, protection: Protection, what: string): Promise<void> {
    await this.#context.events.record(at, {
      kind: 'handover.asked',
      severity: 'warning',
      subject: { kind: 'vm', id: protection.vm_uuid },
      message: `site ${siteId} migrates VM ${protection.vm_name}: ${what}`,
    });
  }

  async #wait(taskId: string, waitMs: number, signal: AbortSignal): Promise<HandoverAnswer> {
    const { changes, clock, db } = this.#context;
    const endMs = clock.monotonicMs() + waitMs;
    for (;;) {
      let isChanged = false;
      const stop = changes.listen('jobs', () => (isChanged = true));
      try {
        const answer = this.#answer((await findTask(db, taskId))!);
        const leftMs = endMs - clock.monotonicMs();
        if (answer.state !== 'waiting' || leftMs <= 0 || signal.aborted) return answer;
        if (!isChanged) await changes.next(['jobs'], leftMs, signal);
      } finally {
        stop();
      }
    }
  }

  #answer({ state, report, member_id: hostId }: Task): HandoverAnswer {
    const { inventory } = this.#context;
    const nothing = { note: null, result: null, failure: null };
    if (state === 'done') return { ...nothing, state, result: report?.result ?? null };
    if (state === 'failed') {
      const failure = report?.failure ?? { code: 'tool_failed', message: 'it failed', hint: null };
      return { ...nothing, state, failure };
    }
    if (state === 'withdrawn') {
      return {
        ...nothing,
        state: 'failed',
        failure: { code: 'conflict', message: 'it was taken back', hint: null },
      };
    }
    const host = inventory.agent(hostId);
    const step = report?.steps.at(-1);
    const about = step === undefined ? 'it is ordered' : [step.name, step.note].filter(Boolean).join(': ');
    const isFresh = host !== undefined && inventory.isFresh(host);
    const note = isFresh ? about : `host ${host?.name ?? hostId} does not report`;
    return { ...nothing, state: 'waiting', note: note.slice(0, 4096) };
  }
}

function unreachable({ vm_name: name }: Protection, host: AgentMember | undefined): HandoverAnswer {
  const message =
    host === undefined
      ? `no host of the protected site has VM ${name}`
      : `host ${host.name}, which has VM ${name}, does not report`;
  const hint = host === undefined ? undefined : `Start the agent on ${host.name}.`;
  const failure = new Failure('unreachable', message, hint === undefined ? {} : { hint });
  return { state: 'failed', note: null, result: null, failure: problemOf(failure) };
}

function cyclesAfter({ body }: Task, shutDownId: string): boolean {
  return body.kind === 'final_cycle' && body.shut_down_task_id === shutDownId;
}

/** Of all tasks that a site asked for of a VM. */
export function handoverJobId(siteId: string, vmUuid: string): string {
  return `handover-${siteId}-${vmUuid}`;
}

/** Another site's ids say nothing here, and must not name tasks of this one. */
function handoverTaskId(siteId: string, id: string): string {
  return `handover-${createHash('sha256').update(`${siteId} ${id}`).digest('hex').slice(0, 32)}`;
}

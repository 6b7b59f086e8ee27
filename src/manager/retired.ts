/** Old copies that made room on hosts of this site: what there is, and removing one when a person asks for it. */
import type { RetiredView } from '#/api/retired.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from './context.ts';
import { addTask, tasksOfJob, type Task } from './store/task-store.ts';

export class Retired {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  async list(): Promise<RetiredView[]> {
    const found = this.#context.inventory.agents().flatMap((agent) =>
      (agent.report?.retired ?? []).map(async (copy) => {
        const last = (await tasksOfJob(this.#context.db, jobOf(copy.id))).at(-1);
        return {
          ...copy,
          host_id: agent.id,
          host_name: agent.name,
          is_removing: isUnderWay(last),
          failure: last?.state === 'failed' ? (last.report?.failure ?? null) : null,
        };
      }),
    );
    return (await Promise.all(found)).toSorted((a, b) => b.retired_ms - a.retired_ms);
  }

  /** Orders the removal; asking again while it is under way orders nothing more. Throws not_found. */
  async remove(id: string): Promise<RetiredView> {
    const { changes, clock, db, events } = this.#context;
    const copy = (await this.list()).find((known) => known.id === id);
    if (copy === undefined) {
      throw new Failure('not_found', `no host of this site keeps a retired copy ${id}`, {
        hint: 'List them with: antipode retired list',
      });
    }
    if (copy.is_removing) return copy;
    const tries = (await tasksOfJob(db, jobOf(id))).length;
    const taskId = `remove-${id}-${tries + 1}`.slice(-64).replace(/^-+/, '');
    await db.transaction().execute(async (at) => {
      await addTask(at, {
        id: taskId,
        member_id: copy.host_id,
        job_id: jobOf(id),
        body: { id: taskId, kind: 'remove_retired', retired_id: id },
        created_ms: clock.now(),
      });
      await events.record(at, {
        kind: 'retired.removing',
        severity: 'warning',
        subject: { kind: 'vm', id: copy.vm_uuid },
        message: `the old copy of VM ${copy.vm_name} on host ${copy.host_name} is removed for good`,
      });
    });
    changes.notify('orders');
    return { ...copy, is_removing: true };
  }
}

function jobOf(id: string): string {
  return `remove-${id}`;
}

function isUnderWay(task: Task | undefined): boolean {
  return task?.state === 'ordered' || task?.state === 'running';
}

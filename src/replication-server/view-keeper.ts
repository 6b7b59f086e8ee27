/**
 * The views that tasks have opened. Which point each one shows is on disk before the task is done, so that a server
 * that starts again serves the same point again, also when "the newest" was asked for.
 *
 * A view is closed only by a task that says so: a VM may be running on it. Invariant: a point that a view has pinned
 * is pinned again before compaction begins after a restart.
 */
import { join } from 'node:path';
import { Type } from 'typebox';
import { Check } from 'typebox/value';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { OpenedView, type ViewDescription } from './opened-view.ts';
import type { ReplicaStore } from './replica-store.ts';

const VIEWS_MAX = 256;
const ViewsFile = Type.Record(
  Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' }),
  Type.Object(
    { replica_id: Type.String(), sequence: Type.Integer({ minimum: 1 }) },
    { additionalProperties: false },
  ),
);
type Kept = Record<string, { replica_id: string; sequence: number }>;

export class ViewKeeper implements AsyncDisposable {
  readonly #store: ReplicaStore;
  readonly #statePath: string;
  readonly #runDirectory: string;
  readonly #views = new Map<string, OpenedView>();
  #kept: Kept = {};

  constructor(store: ReplicaStore, paths: { dataDirectory: string; runDirectory: string }) {
    this.#store = store;
    this.#statePath = join(paths.dataDirectory, 'views.json');
    this.#runDirectory = join(paths.runDirectory, 'views');
  }

  /** Opens the views of before again. Returns what did not open; their tasks fail in the same way. */
  async load(): Promise<{ taskId: string; failure: Failure }[]> {
    const value = (await readDurableJson(this.#statePath)) ?? {};
    if (!Check(ViewsFile, value)) {
      throw new Failure('storage_corrupt', `read ${this.#statePath}: not a list of views`, {
        hint: 'Remove the file; views that recoveries still need are opened again.',
      });
    }
    this.#kept = value as Kept;
    const failures: { taskId: string; failure: Failure }[] = [];
    for (const [id, kept] of Object.entries(this.#kept)) {
      try {
        await this.open({ id, ...kept });
      } catch (error) {
        const failure = failureIn(error);
        if (failure === undefined) throw error;
        failures.push({ taskId: id, failure });
      }
    }
    return failures;
  }

  /** Opens the view of a task, or gives the one that is open. Throws not_found, point_expired, limit_exceeded. */
  async open(task: { id: string; replica_id: string; sequence: number }): Promise<ViewDescription> {
    const open = this.#views.get(task.id);
    if (open !== undefined) return open.description;
    if (this.#views.size >= VIEWS_MAX) {
      throw new Failure('limit_exceeded', `open a view: ${VIEWS_MAX} are open`, {
        hint: 'Close test recoveries that are not needed any more.',
      });
    }
    const replica = this.#store.get(task.replica_id);
    const sequence = this.#kept[task.id]?.sequence ?? (task.sequence || replica.head()?.sequence);
    if (sequence === undefined) {
      throw new Failure(
        'not_found',
        `open a view of replica ${task.replica_id}: it has no recovery point yet`,
      );
    }
    const view = await OpenedView.open(replica, sequence, join(this.#runDirectory, task.id));
    try {
      await this.#keep({ ...this.#kept, [task.id]: { replica_id: task.replica_id, sequence } });
    } catch (error) {
      await view[Symbol.asyncDispose]();
      throw error;
    }
    this.#views.set(task.id, view);
    return view.description;
  }

  /** Closes the view of a task; no error when there is none. */
  async close(taskId: string): Promise<void> {
    const view = this.#views.get(taskId);
    this.#views.delete(taskId);
    await view?.[Symbol.asyncDispose]();
    if (!(taskId in this.#kept)) return;
    const { [taskId]: _, ...rest } = this.#kept;
    await this.#keep(rest);
  }

  async closeAllOf(replicaId: string): Promise<void> {
    const own = Object.entries(this.#kept).filter(([, kept]) => kept.replica_id === replicaId);
    for (const [taskId] of own) await this.close(taskId);
  }

  /** Lets go of the views and stays minded to open them again. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const view of this.#views.values()) await view[Symbol.asyncDispose]();
    this.#views.clear();
  }

  async #keep(kept: Kept): Promise<void> {
    await writeDurableJson(this.#statePath, kept);
    this.#kept = kept;
  }
}

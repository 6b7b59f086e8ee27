/**
 * The reports of finished tasks, on disk until the orders do not name the task any more, so that an agent that starts
 * again neither repeats what is done nor forgets what came of it.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Check } from 'typebox/value';
import { TaskReport } from '#/control/reports.ts';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure, failureIn } from '#/lib/failure.ts';

const FILE_NAME = /^task-([0-9a-z-]+)\.json$/;

export class TaskReports {
  readonly #directory: string;

  /** `directory` is made when it is not there. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Undefined for a task that has not ended. One that cannot be read is as good as none: tasks can be repeated. */
  async read(taskId: string): Promise<TaskReport | undefined> {
    try {
      const value = await readDurableJson(this.#path(taskId));
      return Check(TaskReport, value) && value.id === taskId ? value : undefined;
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      return undefined;
    }
  }

  /** Throws storage_full, storage_io. */
  async write(report: TaskReport): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeDurableJson(this.#path(report.id), report);
  }

  /** Removes the reports of tasks that are not wanted at the moment of their removal. Throws storage_io. */
  async keepOnly(isWanted: (taskId: string) => boolean): Promise<void> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      for (const name of await readdir(this.#directory)) {
        const taskId = FILE_NAME.exec(name)?.[1];
        if (taskId !== undefined && !isWanted(taskId)) await rm(this.#path(taskId), { force: true });
      }
    } catch (cause) {
      throw new Failure('storage_io', `remove old reports in ${this.#directory}`, { cause });
    }
  }

  #path(taskId: string): string {
    return join(this.#directory, `task-${taskId}.json`);
  }
}

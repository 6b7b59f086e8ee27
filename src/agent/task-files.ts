/**
 * A file for each task, on disk until nobody wants its task any more: what a task has begun, or what came of it, so
 * that an agent that starts again neither repeats nor forgets it.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Static, TSchema } from 'typebox';
import { Check } from 'typebox/value';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure, failureIn } from '#/lib/failure.ts';

export class TaskFiles<Schema extends TSchema> {
  readonly #directory: string;
  readonly #prefix: string;
  readonly #schema: Schema;
  readonly #fileName: RegExp;

  /** Files are `PREFIX-TASK.json` in `directory`, which is made when it is not there. */
  constructor(directory: string, prefix: string, schema: Schema) {
    this.#directory = directory;
    this.#prefix = prefix;
    this.#schema = schema;
    this.#fileName = new RegExp(`^${prefix}-([0-9a-z-]+)\\.json$`);
  }

  /** Undefined for a task without a file. One that cannot be read is as good as none: tasks can be repeated. */
  async read(taskId: string): Promise<Static<Schema> | undefined> {
    try {
      const value = await readDurableJson(this.#path(taskId));
      return Check(this.#schema, value) ? value : undefined;
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      return undefined;
    }
  }

  /** Throws storage_full, storage_io. */
  async write(taskId: string, value: Static<Schema>): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeDurableJson(this.#path(taskId), value);
  }

  /** Removes the files of tasks that are not wanted at the moment of their removal. Throws storage_io. */
  async keepOnly(isWanted: (taskId: string) => boolean): Promise<void> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      for (const name of await readdir(this.#directory)) {
        const taskId = this.#fileName.exec(name)?.[1];
        if (taskId !== undefined && !isWanted(taskId)) await rm(this.#path(taskId), { force: true });
      }
    } catch (cause) {
      throw new Failure('storage_io', `remove old ${this.#prefix} files in ${this.#directory}`, { cause });
    }
  }

  #path(taskId: string): string {
    return join(this.#directory, `${this.#prefix}-${taskId}.json`);
  }
}

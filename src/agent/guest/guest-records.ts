/** What tasks on guests have begun, a file of its own for each, until their task is forgotten. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import { Check } from 'typebox/value';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure, failureIn } from '#/lib/failure.ts';

const Record = Type.Object({ pid: Type.Integer() });
const FILE_NAME = /^guest-([0-9a-z-]+)\.json$/;

export class GuestRecords {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Of the process that the task has begun; one that cannot be read is as good as none. */
  async pid(taskId: string): Promise<number | undefined> {
    try {
      const value = await readDurableJson(this.#path(taskId));
      return Check(Record, value) ? value.pid : undefined;
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      return undefined;
    }
  }

  async keepPid(taskId: string, pid: number): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeDurableJson(this.#path(taskId), { pid });
  }

  /** Throws storage_io. */
  async keepOnly(isWanted: (taskId: string) => boolean): Promise<void> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      for (const name of await readdir(this.#directory)) {
        const taskId = FILE_NAME.exec(name)?.[1];
        if (taskId !== undefined && !isWanted(taskId)) await rm(this.#path(taskId), { force: true });
      }
    } catch (cause) {
      throw new Failure('storage_io', `remove old records in ${this.#directory}`, { cause });
    }
  }

  #path(taskId: string): string {
    return join(this.#directory, `guest-${taskId}.json`);
  }
}

/**
 * What a recovery made on this host, kept in a file of its own per task, so that repeating the task after a crash goes
 * on where it was, and discarding it finds everything.
 *
 * `started` is durable before the VM is started for the first time: from then on its overlays hold the guest's own
 * writes and are never made anew.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure } from '#/lib/failure.ts';

export type RecoveryState = {
  taskId: string;
  name: string;
  uuid: string;
  /** Holds the overlays and the firmware variables. */
  directory: string;
  network: string | null;
  started: boolean;
  /** When the VM ran its first instruction, ms since the epoch. */
  firstInstructionMs: number | null;
  /** What counted as its sign of life, and when. */
  sign: string | null;
  signMs: number | null;
};

export class RecoveryStates {
  readonly #directory: string;

  /** `directory` is the agent's own; it exists. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  async read(taskId: string): Promise<RecoveryState | undefined> {
    const value = await readDurableJson(this.#path(taskId));
    if (value === undefined) return undefined;
    if (!isRecoveryState(value)) {
      throw new Failure(
        'storage_corrupt',
        `read the state of recovery ${taskId}: ${this.#path(taskId)} is not whole`,
        {
          hint: 'Discard the recovery by hand: undefine its VM, remove its directory and this file, and recover again.',
        },
      );
    }
    return value;
  }

  async write(state: RecoveryState): Promise<void> {
    await writeDurableJson(this.#path(state.taskId), state);
  }

  async remove(taskId: string): Promise<void> {
    await rm(this.#path(taskId), { force: true });
  }

  #path(taskId: string): string {
    return join(this.#directory, `recovery-${taskId}.json`);
  }
}

function isRecoveryState(value: unknown): value is RecoveryState {
  if (typeof value !== 'object' || value === null) return false;
  const state = value as Record<string, unknown>;
  const texts = ['taskId', 'name', 'uuid', 'directory'].every((key) => typeof state[key] === 'string');
  return texts && typeof state['started'] === 'boolean';
}

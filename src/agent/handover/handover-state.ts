/**
 * What a host remembers of a VM that is being handed over to another site: how it was before. One file for each VM,
 * durable before anything is done to it, and gone when that was taken back.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Type, type Static } from 'typebox';
import { Check } from 'typebox/value';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure } from '#/lib/failure.ts';

const HandoverState = Type.Object(
  {
    /** Of the task that shuts it down. */
    taskId: Type.String(),
    vmUuid: Type.String(),
    /** When the task began: its time limit counts from here, whatever restarts in between. */
    beganMs: Type.Number(),
    /** As it was found. */
    wasActive: Type.Boolean(),
    wasPaused: Type.Boolean(),
    autostart: Type.Boolean(),
    /** For so long its guest, which was asked, may still follow when it is to run on. */
    lateMs: Type.Number(),
    /** When it was first seen powered off by this task; null before. */
    offMs: Type.Union([Type.Number(), Type.Null()]),
  },
  { additionalProperties: false },
);
export type HandoverState = Static<typeof HandoverState>;

/** In the agent's `data_directory`. */
export function handoversIn(dataDirectory: string): string {
  return join(dataDirectory, 'handovers');
}

export class HandoverStates {
  readonly #directory: string;

  /** `directory` is the agent's own; it is made when it is not there. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Throws storage_io, storage_corrupt. */
  async read(vmUuid: string): Promise<HandoverState | undefined> {
    const value = await readDurableJson(this.#path(vmUuid));
    if (value === undefined) return undefined;
    if (Check(HandoverState, value) && value.vmUuid === vmUuid) return value;
    throw new Failure('storage_corrupt', `read how VM ${vmUuid} was: ${this.#path(vmUuid)} is not whole`, {
      hint: 'Start the VM by hand, set its autostart as it should be, and remove this file.',
    });
  }

  /** Throws storage_full, storage_io. */
  async write(state: HandoverState): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeDurableJson(this.#path(state.vmUuid), state);
  }

  async remove(vmUuid: string): Promise<void> {
    await rm(this.#path(vmUuid), { force: true });
  }

  #path(vmUuid: string): string {
    return join(this.#directory, `${vmUuid}.json`);
  }
}

/**
 * What recoveries made on this host, kept in a file of its own per task, so that repeating a task after a crash goes
 * on where it was, and discarding it finds everything.
 *
 * `started` is durable before the VM is started for the first time, by the task or, when that leaves it off, by a
 * person: from then on its overlays may hold the guest's own writes and are never made anew.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Type, type Static } from 'typebox';
import { Check } from 'typebox/value';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure } from '#/lib/failure.ts';

const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) =>
  Type.Union([type, Type.Null()]);

const RecoveryState = Type.Object(
  {
    taskId: Type.String(),
    name: Type.String(),
    uuid: Type.String(),
    /** Holds the overlays and the firmware variables. */
    directory: Type.String(),
    /** The isolated networks of a test, and the router between them. */
    networks: Type.Array(Type.String()),
    router: nullable(Type.String()),
    /** The router's addresses, which nobody else may take. */
    gateways: Type.Array(Type.String()),
    /** MAC addresses of the protected VM's interfaces, in their order; a test has new ones. */
    macs: Type.Array(Type.String()),
    /** The VM has a software TPM whose state the recovery has put in libvirt's place for it. */
    hasTpm: Type.Boolean(),
    started: Type.Boolean(),
    /** Why its addresses were not changed, although the recovery was to. */
    editNote: Type.Optional(Type.String()),
    /** Its guest is not to run: no repeat of the task starts it, but paused while its disks are pulled. */
    isLeftOff: Type.Optional(Type.Literal(true)),
    /** Tells what was written since before its first instruction; not there when nothing does. */
    tracking: Type.Optional(Type.String({ maxLength: 128 })),
    /** Nothing does, and it is not tried again: disks that are being pulled may keep libvirt waiting for ever. */
    isUntracked: Type.Optional(Type.Literal(true)),
    /** When the VM ran its first instruction, ms since the epoch; null also when nobody was there to see it. */
    firstInstructionMs: nullable(Type.Number()),
    /** Somebody has seen it run, so that it is not resumed or started against its owner's will. */
    hasRun: Type.Boolean(),
    /** What counted as its sign of life, and when. */
    sign: nullable(Type.String()),
    signMs: nullable(Type.Number()),
    /** It was shut down or is left off, and is held paused until its disks are pulled. */
    isHeld: Type.Boolean(),
    /** Nothing of the VM reads from the replica any more. */
    isIndependent: Type.Boolean(),
  },
  { additionalProperties: false },
);
export type RecoveryState = Static<typeof RecoveryState>;

const FILE_NAME = /^recovery-([0-9a-z-]+)\.json$/;

export class RecoveryStates {
  readonly #directory: string;
  readonly #known = new Map<string, RecoveryState>();

  /** `directory` is the agent's own; it is made when it is not there. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Reads all of them. Returns what is wrong with those that cannot be read. */
  async load(): Promise<Failure[]> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const failures: Failure[] = [];
    for (const name of await readdir(this.#directory)) {
      const taskId = FILE_NAME.exec(name)?.[1];
      if (taskId === undefined || this.#known.has(taskId)) continue;
      try {
        await this.read(taskId);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        failures.push(error);
      }
    }
    return failures;
  }

  /** The VMs that were started and still read from the replica. */
  dependent(): RecoveryState[] {
    return [...this.#known.values()].filter((state) => state.started && !state.isIndependent);
  }

  /** What every recovery that is known of on this host has made. */
  all(): RecoveryState[] {
    return [...this.#known.values()];
  }

  async read(taskId: string): Promise<RecoveryState | undefined> {
    const value = await readDurableJson(this.#path(taskId));
    if (value === undefined) return undefined;
    if (!Check(RecoveryState, value)) {
      throw new Failure(
        'storage_corrupt',
        `read the state of recovery ${taskId}: ${this.#path(taskId)} is not whole`,
        {
          hint: 'Discard the recovery by hand: undefine its VM, remove its directory and this file, and recover again.',
        },
      );
    }
    this.#known.set(taskId, value);
    return value;
  }

  async write(state: RecoveryState): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeDurableJson(this.#path(state.taskId), state);
    this.#known.set(state.taskId, state);
  }

  async remove(taskId: string): Promise<void> {
    await rm(this.#path(taskId), { force: true });
    this.#known.delete(taskId);
  }

  #path(taskId: string): string {
    return join(this.#directory, `recovery-${taskId}.json`);
  }
}

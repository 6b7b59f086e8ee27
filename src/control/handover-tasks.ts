/**
 * Tasks of the host that a VM moves away from in a planned migration: shut it down, replicate its last state, and
 * take that back. Each remembers on the host what it needs to be repeated.
 */
import { Type, type Static } from 'typebox';

const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' });
const Name = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' });
const Milliseconds = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const closed = { additionalProperties: false };
const vm = { id: Id, vm_uuid: Uuid, vm_name: Name };

/**
 * `done` when the VM was seen powered off, its autostart turned off. `guest` asks the guest, again and again within the
 * time; one that has not followed by then runs on, and the task has failed. `power_off` ends it without asking.
 */
export const ShutDownTask = Type.Object(
  {
    ...vm,
    kind: Type.Literal('shut_down'),
    mode: Type.Union([Type.Literal('guest'), Type.Literal('power_off')]),
    timeout_ms: Milliseconds,
  },
  closed,
);
export type ShutDownTask = Static<typeof ShutDownTask>;

/** A recovery point of the VM as that task left it, powered off. `done`, with a FinalPoint, when it is acknowledged. */
export const FinalCycleTask = Type.Object(
  { ...vm, kind: Type.Literal('final_cycle'), replica_id: Id, shut_down_task_id: Id },
  closed,
);
export type FinalCycleTask = Static<typeof FinalCycleTask>;

/** The VM is again as that task found it: started if it ran, with its autostart. */
export const StartAgainTask = Type.Object(
  { ...vm, kind: Type.Literal('start_again'), shut_down_task_id: Id },
  closed,
);
export type StartAgainTask = Static<typeof StartAgainTask>;

export const HandoverTask = Type.Union([ShutDownTask, FinalCycleTask, StartAgainTask]);
export type HandoverTask = Static<typeof HandoverTask>;

/** The root of a disk's digest tree. */
export const DiskRoot = Type.Object({ key: Name, root: Type.String({ pattern: '^[0-9a-f]{32}$' }) }, closed);
export type DiskRoot = Static<typeof DiskRoot>;

/** What both sites compare: the point, and the roots of its disks. */
export const FinalPoint = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    stamp: Type.String({ maxLength: 32 }),
    moment_ms: Milliseconds,
    disks: Type.Array(DiskRoot, { minItems: 1, maxItems: 64 }),
  },
  closed,
);
export type FinalPoint = Static<typeof FinalPoint>;

/** Old copies of VMs that were put aside on a host because their VM came back to its site (docs/failback.md). */
import { Type, type Static } from 'typebox';

const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });
const Name = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' });
const Milliseconds = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const closed = { additionalProperties: false };

/** Remove a retired copy for good: its disks, its firmware's state, its definition. What is gone is no failure. */
export const RemoveRetiredTask = Type.Object(
  { id: Id, kind: Type.Literal('remove_retired'), retired_id: Id },
  closed,
);
export type RemoveRetiredTask = Static<typeof RemoveRetiredTask>;

/** A copy whose definition was kept aside; its disks lie where they lay. */
export const RetiredReport = Type.Object(
  {
    /** Of the task that brought its VM up here again. */
    id: Id,
    vm_uuid: Type.String({ maxLength: 36 }),
    vm_name: Name,
    retired_ms: Milliseconds,
    disks: Type.Array(
      Type.Object({ key: Name, path: Type.String({ maxLength: 4096 }), bytes: Milliseconds }, closed),
      { maxItems: 256 },
    ),
  },
  closed,
);
export type RetiredReport = Static<typeof RetiredReport>;
export const RETIRED_MAX = 10_000;

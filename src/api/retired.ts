/** Old copies of VMs that made room because their VM came back: kept until a person removes them. */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Problem } from './common.ts';

export const RetiredView = Type.Object(
  {
    id: Id,
    vm_uuid: Type.String(),
    vm_name: Name,
    host_id: Id,
    host_name: Name,
    retired_ms: Milliseconds,
    disks: Type.Array(
      Type.Object(
        {
          key: Name,
          path: Type.String(),
          /** What it takes on the host's storage. */
          bytes: Type.Integer({ minimum: 0 }),
        },
        closed,
      ),
    ),
    /** A person has asked for its removal, and its host has not confirmed it yet. */
    is_removing: Type.Boolean(),
    /** Why its last removal failed. */
    failure: nullable(Problem),
  },
  closed,
);
export type RetiredView = Static<typeof RetiredView>;

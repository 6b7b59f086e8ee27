/** What a manager orders of the host that has an old copy of a VM: to fill a replica from it (docs/failback.md). */
import { Type, type Static } from 'typebox';

const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' });
const Name = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' });
const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Milliseconds = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const closed = { additionalProperties: false };

/**
 * Make the copy of this host, which has yielded, the next recovery point of a replica of this very site. A copy that is
 * paused is ended for it, and its memory is lost. `done` with a SeedResult.
 */
export const SeedTask = Type.Object(
  {
    id: Id,
    kind: Type.Literal('seed'),
    replica_id: Id,
    vm_uuid: Uuid,
    vm_name: Name,
    /** Of the copy, those that the replica has too. */
    disks: Type.Array(Name, { minItems: 1, maxItems: 64 }),
    /** Of the claim that the copy has yielded to. */
    epoch: Type.Integer({ minimum: 1 }),
    server: Type.Object(
      {
        site_id: Id,
        server_id: Id,
        host: Type.String({ maxLength: 255 }),
        port: Type.Integer({ minimum: 1, maximum: 65_535 }),
      },
      closed,
    ),
    /** The replica that the copy was protected to: its record on this host says what the other site had. */
    former_replica_id: Type.Union([Id, Type.Null()]),
  },
  closed,
);
export type SeedTask = Static<typeof SeedTask>;

/** A part of a disk that was written here and never reached the other site. */
export const OnlyHereExtent = Type.Object({ disk: Name, offset: Bytes, length: Bytes }, closed);
export type OnlyHereExtent = Static<typeof OnlyHereExtent>;

/** What the old copy has that the last point which the other site acknowledged has not. */
export const OnlyHere = Type.Object(
  {
    /** That point. */
    sequence: Type.Integer({ minimum: 1 }),
    /** Nothing of it was written before this, the point's moment, ... */
    after_ms: Milliseconds,
    /** ... and nothing after this, when the images were last written. */
    until_ms: Milliseconds,
    bytes: Bytes,
    extent_count: Bytes,
    /** The first of them; the host keeps the list. */
    extents: Type.Array(OnlyHereExtent, { maxItems: 100 }),
  },
  closed,
);
export type OnlyHere = Static<typeof OnlyHere>;

export const SeedResult = Type.Object(
  {
    /** The recovery point that the old copy became. */
    sequence: Type.Integer({ minimum: 1 }),
    moment_ms: Milliseconds,
    read_bytes: Bytes,
    changed_bytes: Bytes,
    /** Null when no record says what the other site had; `only_here_note` says why. */
    only_here: Type.Union([OnlyHere, Type.Null()]),
    only_here_note: Type.Union([Type.String({ maxLength: 4096 }), Type.Null()]),
  },
  closed,
);
export type SeedResult = Static<typeof SeedResult>;

/** Replicas at this site and their recovery points. */
import { Type, type Static } from 'typebox';
import { Bytes, closed, Id, Milliseconds, Name, nullable, Problem, Retention } from './common.ts';

/** As somebody types it. */
const BookmarkName = Type.String({ minLength: 1, maxLength: 128, pattern: '^[^\\x00-\\x1f]+$' });

export const BookmarkRequest = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    name: BookmarkName,
    /** How long the point is kept by it; null: until it is taken away. */
    until_ms: nullable(Milliseconds),
  },
  closed,
);
export type BookmarkRequest = Static<typeof BookmarkRequest>;

export const BookmarkView = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    name: Type.String(),
    moment_ms: Milliseconds,
    until_ms: nullable(Milliseconds),
    /**
     * kept: the replication server says that it keeps the point. asked: it has not said so yet. gone: retention took
     * the point before. ended: the point is one like others again.
     */
    state: Type.Union([
      Type.Literal('asked'),
      Type.Literal('kept'),
      Type.Literal('gone'),
      Type.Literal('ended'),
    ]),
  },
  closed,
);
export type BookmarkView = Static<typeof BookmarkView>;

export const ReplicaView = Type.Object(
  {
    id: Id,
    vm_uuid: Type.String(),
    vm_name: Name,
    source_site_id: Id,
    source_site_name: Name,
    server_id: Id,
    rpo_ms: Milliseconds,
    retention: Retention,
    epoch: Type.Integer(),
    /** active, kept (no longer protected), recovered (the VM was brought up here), deleting. */
    state: Type.String(),
    /** As its server last said: empty, first_copy, ready, broken; null before it said anything. */
    condition: nullable(Type.String()),
    point_count: Type.Integer(),
    stored_bytes: Bytes,
    disks: Type.Array(Type.Object({ key: Name, bytes: Bytes }, closed)),
    bookmarks: Type.Array(BookmarkView),
    created_ms: Milliseconds,
    report_ms: nullable(Milliseconds),
    failure: nullable(Problem),
  },
  closed,
);
export type ReplicaView = Static<typeof ReplicaView>;

export const PointView = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    stamp: Type.String(),
    moment_ms: Milliseconds,
    acknowledged_ms: Milliseconds,
    consistency: Type.String(),
    delta_bytes: Bytes,
    /** Its name, when somebody has bookmarked it. */
    bookmark: nullable(Type.String()),
    /** Of the digest trees of its disks; of the newest points of a powered-off VM. */
    roots: Type.Optional(Type.Array(Type.Object({ key: Type.String(), root: Type.String() }, closed))),
  },
  closed,
);
export type PointView = Static<typeof PointView>;

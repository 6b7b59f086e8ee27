/** Parts that the schemas of the public API share. Times are integer milliseconds since the Unix epoch. */
import { Type, type Static, type TSchema } from 'typebox';

export const closed = { additionalProperties: false };
export const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });
/** As libvirt allows it, without slashes and control characters. */
export const Name = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' });
export const Text = Type.String({ maxLength: 4096 });
export const Milliseconds = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const nullable = <T extends TSchema>(type: T) => Type.Union([type, Type.Null()]);

/** What every refusal and error looks like: a code of a closed table, what happened, and the way out. */
export const Problem = Type.Object(
  { code: Type.String(), message: Type.String(), hint: nullable(Type.String()) },
  closed,
);
export type Problem = Static<typeof Problem>;

export const Progress = Type.Object({ done_bytes: Bytes, total_bytes: Bytes }, closed);
export type Progress = Static<typeof Progress>;

/** Which recovery points are kept: all younger than `keep_all_ms`, then one in each interval of each tier. */
export const Retention = Type.Object(
  {
    keep_all_ms: Milliseconds,
    tiers: Type.Array(Type.Object({ every_ms: Type.Integer({ minimum: 1 }), for_ms: Milliseconds }, closed), {
      maxItems: 16,
    }),
  },
  closed,
);
export type Retention = Static<typeof Retention>;

/** All of the last hour, then one an hour for a day. */
export const DEFAULT_RETENTION: Retention = {
  keep_all_ms: 3_600_000,
  tiers: [{ every_ms: 3_600_000, for_ms: 86_400_000 }],
};

/** Lists are paged: at most this many items are answered at once. */
export const PAGE_MAX = 1000;
export const PageQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX })),
    offset: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
  },
  closed,
);
export type PageQuery = Static<typeof PageQuery>;

/** A page of a list, and how long the whole list is. */
export const pageOf = <T extends TSchema>(item: T) =>
  Type.Object({ items: Type.Array(item), total: Type.Integer({ minimum: 0 }) }, closed);
export type Page<Item> = { items: Item[]; total: number };

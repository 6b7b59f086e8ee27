/** Rebuilding a site's lost database (docs/operate/rebuild.md). */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Text } from './common.ts';

const Kind = Type.Union([Type.Literal('agent'), Type.Literal('replication-server')]);
const Count = Type.Integer({ minimum: 0 });

/** Programs and sites, by id or name, that are not let in, and not waited for. */
export const RebuildRequest = Type.Object(
  { without: Type.Optional(Type.Array(Name, { maxItems: 1000 })) },
  closed,
);
export type RebuildRequest = Static<typeof RebuildRequest>;

export const RebuildView = Type.Object(
  {
    /** waiting: the database is new and the site is not. open: what others know is being gathered. */
    state: Type.Union([Type.Literal('none'), Type.Literal('waiting'), Type.Literal('open')]),
    /** Programs with a certificate of this site that were turned away, because the database does not know them. */
    strangers: Type.Array(Type.Object({ id: Id, kind: Kind, address: Text, seen_ms: Milliseconds }, closed)),
    /** Those that were let in again, and whether they have told what they keep. */
    members: Type.Array(Type.Object({ id: Id, kind: Kind, name: Name, has_told: Type.Boolean() }, closed)),
    /** Paired sites as those programs name them. */
    peers: Type.Array(
      Type.Object(
        {
          site_id: Id,
          site_name: Name,
          address: Text,
          /** Of its authority's certificate, to be compared with what that site says of itself. */
          authority_sha256: Type.String(),
          has_told: Type.Boolean(),
          failure: nullable(Text),
        },
        closed,
      ),
    ),
    /** What the rebuild still waits for, in words. */
    missing: Type.Array(Text),
    /** Of the last rebuild since the manager started. */
    result: nullable(
      Type.Object(
        {
          ended_ms: Milliseconds,
          replicas: Count,
          protections: Count,
          claims: Count,
          documents: Count,
          notes: Type.Array(Text),
        },
        closed,
      ),
    ),
  },
  closed,
);
export type RebuildView = Static<typeof RebuildView>;

/**
 * What a replication server says of the digests of a recovery point that it serves, in `digests.json` beside the
 * point's attachments: the agent of the same host reads it when it recovers the VM (docs/failback.md, section 6).
 *
 * The key is a secret of the replica: the file is root's alone, and no report or log names what is in it.
 */
import { Type, type Static } from 'typebox';

const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const closed = { additionalProperties: false };

export const PointDigests = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    stamp: Type.String({ pattern: '^[0-9a-f]{32}$' }),
    moment_ms: Bytes,
    digest_key: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    /** NBD exports named by the disks' keys: 16 bytes for each block, padded with zeroes to a whole sector. */
    socket_path: Type.String({ minLength: 1, maxLength: 1024 }),
    disks: Type.Array(
      Type.Object(
        {
          key: Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' }),
          bytes: Bytes,
          /** Of its digest tree. */
          root: Type.String({ pattern: '^[0-9a-f]{32}$' }),
        },
        closed,
      ),
      { maxItems: 64 },
    ),
  },
  closed,
);
export type PointDigests = Static<typeof PointDigests>;

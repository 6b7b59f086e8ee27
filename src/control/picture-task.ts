/** A picture of a VM's screen, for the report of a run. Its result is `PictureResult`. */
import { Type, type Static } from 'typebox';

const closed = { additionalProperties: false };
const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });

export const PictureTask = Type.Object(
  {
    id: Id,
    kind: Type.Literal('picture'),
    /** That brought the VM up. */
    recover_task_id: Id,
  },
  closed,
);
export type PictureTask = Static<typeof PictureTask>;

/** A report holds it, with all other tasks of a host. */
export const PICTURE_BYTES_MAX = 256 * 1024;
export const PictureResult = Type.Object(
  { png: Type.String({ maxLength: Math.ceil(PICTURE_BYTES_MAX / 3) * 4 }) },
  closed,
);

/**
 * The screen of a VM in somebody's browser (docs/wire-protocol.md, "Consoles"): the agent connects to the VM's display,
 * dials the manager that ordered it, and joins the two. It is done when either end has closed.
 */
import { Type, type Static } from 'typebox';

const closed = { additionalProperties: false };
const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });

export const ConsoleTask = Type.Object(
  {
    id: Id,
    kind: Type.Literal('console'),
    /** That brought the VM up. */
    recover_task_id: Id,
    /** The manager at which the person is: of several of a site, not any other will do. */
    manager: Type.Object(
      {
        host: Type.String({ minLength: 1, maxLength: 255 }),
        port: Type.Integer({ minimum: 1, maximum: 65_535 }),
      },
      closed,
    ),
  },
  closed,
);
export type ConsoleTask = Static<typeof ConsoleTask>;

/** What the connection speaks after it has left HTTP: the bytes of the display (RFB, RFC 6143), and nothing of ours. */
export const CONSOLE_PROTOCOL = 'antipode-console';

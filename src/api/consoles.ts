/** The screen of a VM that was recovered or is tested here, in a browser (docs/web.md, "Consoles"). */
import { Type, type Static } from 'typebox';
import { closed, Id, Name } from './common.ts';

export const ConsoleView = Type.Object(
  {
    /** Of the WebSocket `/api/v1/consoles/ID`, for who opened it, once, within seconds. */
    id: Id,
    recovery_id: Id,
    vm_name: Name,
    host_name: Name,
  },
  closed,
);
export type ConsoleView = Static<typeof ConsoleView>;

/** Events. */
import { Type, type Static } from 'typebox';
import { closed, Milliseconds, Text } from './common.ts';

export const EventView = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    /** When it happened, which may be long before it was recorded. */
    at_ms: Milliseconds,
    kind: Type.String(),
    severity: Type.Union([Type.Literal('info'), Type.Literal('warning'), Type.Literal('error')]),
    subject: Type.Object({ kind: Type.String(), id: Text }, closed),
    message: Text,
    /** The program that saw it. */
    reporter: Type.String(),
  },
  closed,
);
export type EventView = Static<typeof EventView>;

/**
 * What the recovery site asks of the protected one in a planned migration, under /peer/v1/handovers: shut a VM down,
 * replicate its last state, take that back. Each has an id of the asking site; asking again orders nothing more, and
 * answers how it stands.
 */
import { Type, type Static } from 'typebox';
import { closed, Id, nullable, Problem, Text } from './common.ts';

/** The asking site's own, unique within it. */
const AskedId = Type.String({ pattern: '^[0-9A-Za-z._:/-]{1,200}$' });
const asked = {
  id: AskedId,
  vm_uuid: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
  replica_id: Id,
  /** How long to hold the answer while there is nothing to say but that it is under way. */
  wait_ms: Type.Integer({ minimum: 0, maximum: 10_000 }),
};

export const HandoverRequest = Type.Union([
  Type.Object(
    {
      ...asked,
      kind: Type.Literal('shut_down'),
      mode: Type.Union([Type.Literal('guest'), Type.Literal('power_off')]),
      timeout_ms: Type.Integer({ minimum: 1, maximum: 7 * 86_400_000 }),
    },
    closed,
  ),
  Type.Object({ ...asked, kind: Type.Literal('last_cycle') }, closed),
  Type.Object(
    {
      ...asked,
      kind: Type.Literal('start_again'),
      shut_down_id: AskedId,
      /** The asking site has claimed the VM, runs no copy of it, and lets this one run again. */
      give_back: Type.Boolean(),
    },
    closed,
  ),
]);
export type HandoverRequest = Static<typeof HandoverRequest>;

/** `done` was seen to be so. */
export const HandoverAnswer = Type.Object(
  {
    state: Type.Union([Type.Literal('waiting'), Type.Literal('done'), Type.Literal('failed')]),
    /** What it waits for, or what came of it, in words. */
    note: nullable(Text),
    /** Of a last cycle the point, with the roots of its disks. */
    result: nullable(Type.Record(Type.String({ maxLength: 64 }), Type.Unknown())),
    failure: nullable(Problem),
  },
  closed,
);
export type HandoverAnswer = Static<typeof HandoverAnswer>;

/** A recovery plan with all that it stands on, as one file; and what is found when one is checked. */
import { Type, type Static } from 'typebox';
import { closed, nullable, Text } from './common.ts';

/**
 * `error`: it cannot be kept. `blocks_runs`: it can be kept, for what is missing may be added to the site, and no run
 * of it begins until then. `warning`: worth a look.
 */
export const PlanProblem = Type.Object(
  {
    severity: Type.Union([Type.Literal('error'), Type.Literal('blocks_runs'), Type.Literal('warning')]),
    code: Type.String(),
    message: Text,
    hint: nullable(Text),
    /** Where, as a JSON pointer into the plan's file, such as /plan/vms/web/depends_on/0. */
    at: Type.String({ maxLength: 4096 }),
  },
  closed,
);
export type PlanProblem = Static<typeof PlanProblem>;

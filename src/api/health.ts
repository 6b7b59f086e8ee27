/** What load balancers are told of a manager. */
import { Type, type Static } from 'typebox';
import { closed } from './common.ts';

const Word = Type.Union([Type.Literal('ok'), Type.Literal('failing'), Type.Literal('unknown')]);

export const Alive = Type.Object({ status: Type.Literal('alive') }, closed);

export const ReadyChecks = Type.Object(
  {
    /** It answers within two seconds. */
    database: Word,
    /** Its tables are those of this version. */
    schema: Word,
    /** The manager's own certificate is one for now. */
    certificate: Word,
    /** `failing` while a lost database waits to be rebuilt. */
    rebuild: Word,
  },
  closed,
);
export type ReadyChecks = Static<typeof ReadyChecks>;

export const Ready = Type.Object(
  { status: Type.Union([Type.Literal('ready'), Type.Literal('not_ready')]), checks: ReadyChecks },
  closed,
);

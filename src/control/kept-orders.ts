/**
 * What a program tells a manager that has lost its database: the orders that it goes on by, and what else it keeps on
 * disk that the database knew (docs/operate/rebuild.md).
 */
import { Type, type Static } from 'typebox';
import { AgentOrders, EpochClaim, ReplicaOrder, ServerOrders } from './orders.ts';

const closed = { additionalProperties: false };
const Name = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' });

export const KeptByAgent = Type.Object(
  {
    /** Null when there were never any. */
    orders: Type.Union([AgentOrders, Type.Null()]),
    /** Of the host's fence records. */
    fences: Type.Array(Type.Object({ claim: EpochClaim, vm_name: Name }, closed), { maxItems: 20_000 }),
  },
  closed,
);
export type KeptByAgent = Static<typeof KeptByAgent>;

export const KeptByServer = Type.Object(
  {
    orders: Type.Union([ServerOrders, Type.Null()]),
    /** What stands beside the replicas, which outlives the server's own directory. */
    replicas: Type.Array(ReplicaOrder, { maxItems: 100_000 }),
  },
  closed,
);
export type KeptByServer = Static<typeof KeptByServer>;

/** The answer to a report. */
export const ReportReply = Type.Object({ tell_orders: Type.Optional(Type.Boolean()) });
export type ReportReply = Static<typeof ReportReply>;

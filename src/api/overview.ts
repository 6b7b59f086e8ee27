/** A site at a glance: how its VMs stand, what flows between the sites, and what waits for a person. */
import { Type, type Static } from 'typebox';
import { Bytes, closed, Id, Milliseconds, Name, nullable, Text } from './common.ts';
import { Site } from './inventory.ts';
import { StandingCounts, VmRow } from './vm-table.ts';

const Count = Type.Integer({ minimum: 0 });
const Members = Type.Object({ total: Count, alive: Count }, closed);

/** Replication from one site to another, as this site knows it. */
export const Flow = Type.Object(
  {
    from: Name,
    to: Name,
    vm_count: Count,
    violated_count: Count,
    unknown_count: Count,
    /** By the last cycles. */
    bytes_per_s: Bytes,
  },
  closed,
);
export type Flow = Static<typeof Flow>;

/** Something that goes on only when a person does something. */
export const Need = Type.Object(
  {
    severity: Type.Union([Type.Literal('error'), Type.Literal('warning'), Type.Literal('info')]),
    subject: Type.Object(
      {
        kind: Type.Union([
          Type.Literal('vm'),
          Type.Literal('run'),
          Type.Literal('recovery'),
          Type.Literal('plan'),
          Type.Literal('host'),
          Type.Literal('replication-server'),
          Type.Literal('site'),
        ]),
        id: Text,
        name: Text,
      },
      closed,
    ),
    text: Text,
    hint: nullable(Text),
    since_ms: nullable(Milliseconds),
  },
  closed,
);
export type Need = Static<typeof Need>;

export const Overview = Type.Object(
  {
    now_ms: Milliseconds,
    site_id: Id,
    site_name: Name,
    sites: Type.Array(Site),
    counts: StandingCounts,
    hosts: Members,
    replication_servers: Members,
    flows: Type.Array(Flow),
    /** The VMs nearest to a violation of their RPO, or longest beyond it. */
    worst: Type.Array(VmRow),
    /** The worst first. */
    needs: Type.Array(Need),
    /** How many needs there are; `needs` has the first of them. */
    need_count: Count,
  },
  closed,
);
export type Overview = Static<typeof Overview>;

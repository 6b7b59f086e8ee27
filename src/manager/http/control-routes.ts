/** What agents and replication servers call (src/control/manager-client.ts is the other end). */
import { Type } from 'typebox';
import { Check } from 'typebox/value';
import { JoinReply, JoinRequest, RenewReply, RenewRequest } from '#/control/join.ts';
import { KeptByAgent, KeptByServer, ReportReply } from '#/control/kept-orders.ts';
import { AgentReport, ServerReport } from '#/control/reports.ts';
import { closed } from '#/api/common.ts';
import { Failure } from '#/lib/failure.ts';
import { REPORT_BYTES_MAX } from '#/manager/limits.ts';
import { takeAgentReport, takeServerReport } from '#/manager/reports.ts';
import { Answer, route, type Caller, type Route } from './route.ts';

const PROGRAMS = ['agent', 'replication-server'] as const;
const tag = 'control';

export const CONTROL_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/control/v1/join',
    roles: ['anonymous'],
    tag,
    summary: 'Join this site with a single-use token',
    body: JoinRequest,
    reply: JoinReply,
    handle: ({ body, remoteAddress }, { admission }) => admission.join(body, remoteAddress),
  }),
  route({
    method: 'GET',
    path: '/control/v1/orders',
    roles: PROGRAMS,
    tag,
    summary: 'Orders of another revision than `after`; held for up to 25 s, then 204',
    query: Type.Object({ after: Type.Optional(Type.Integer({ minimum: 0 })) }, closed),
    handle: async ({ caller, query, signal }, { orders, stopping }) => {
      const either = AbortSignal.any([signal, stopping]);
      return (await orders.poll(program(caller), query.after, either)) ?? new Answer(204);
    },
  }),
  route({
    method: 'POST',
    path: '/control/v1/reports',
    roles: PROGRAMS,
    tag,
    summary: 'Report how everything stands',
    // Which of the two it has to be depends on who is calling, so the handler checks it.
    body: Type.Unknown(),
    bodyBytesMax: REPORT_BYTES_MAX,
    reply: ReportReply,
    handle: async ({ body, caller }, { context, rebuild }) => {
      const { kind, id } = program(caller);
      if (kind === 'agent' && Check(AgentReport, body)) await takeAgentReport(context, id, body);
      else if (kind !== 'agent' && Check(ServerReport, body)) await takeServerReport(context, id, body);
      else throw unknownReport(kind);
      return (await rebuild.isWanted(id)) ? { tell_orders: true } : {};
    },
  }),
  route({
    method: 'POST',
    path: '/control/v1/kept-orders',
    roles: PROGRAMS,
    tag,
    summary: 'The orders that a program goes on by, for a manager that has lost its database',
    body: Type.Unknown(),
    bodyBytesMax: REPORT_BYTES_MAX,
    handle: async ({ body, caller }, { rebuild }) => {
      const { kind, id } = program(caller);
      if (kind === 'agent' && Check(KeptByAgent, body)) rebuild.agentTold(id, body);
      else if (kind !== 'agent' && Check(KeptByServer, body)) rebuild.serverTold(id, body);
      else throw unknownReport(kind);
    },
  }),
  route({
    method: 'POST',
    path: '/control/v1/renew',
    roles: PROGRAMS,
    tag,
    summary: 'A fresh certificate for the same identity',
    body: RenewRequest,
    reply: RenewReply,
    handle: ({ body, caller }, { admission }) => admission.renew(program(caller), body.csr_pem),
  }),
];

function unknownReport(kind: string): Failure {
  return new Failure('usage_invalid', `the report is not one of this version's ${kind}s`, {
    hint: 'Run the same version of Antipode at the manager and there.',
  });
}

function program(caller: Caller): { kind: 'agent' | 'replication-server'; id: string } {
  if (caller.role === 'agent' || caller.role === 'replication-server') {
    return { kind: caller.role, id: caller.id };
  }
  throw new Failure('forbidden', `${caller.role} is no program of this site`);
}

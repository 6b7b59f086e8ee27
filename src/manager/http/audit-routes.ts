/** The audit log. */
import { Type } from 'typebox';
import { AuditRow, AuditVerification } from '#/api/audit.ts';
import { closed } from '#/api/common.ts';
import { auditAfter, listAudit } from '#/manager/store/audit-store.ts';
import { route, type Route } from './route.ts';

const roles = ['person'] as const;
const tag = 'access';
const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 }));
const Sequence = Type.Optional(Type.Integer({ minimum: 0 }));

export const AUDIT_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/audit',
    roles,
    tag,
    summary: 'What people did, newest first; one row for each, `begun` for what has no outcome',
    query: Type.Object({ before: Sequence, limit: Limit }, closed),
    reply: Type.Object({ items: Type.Array(AuditRow) }, closed),
    handle: async ({ query }, { context }) => ({
      items: await listAudit(context.db, query.limit ?? 100, query.before ?? Number.MAX_SAFE_INTEGER),
    }),
  }),
  route({
    method: 'GET',
    path: '/api/v1/audit/rows',
    roles,
    tag,
    summary: 'All rows as they are chained, ascending, after a sequence: for export',
    query: Type.Object({ after: Sequence, limit: Limit }, closed),
    reply: Type.Object({ items: Type.Array(AuditRow) }, closed),
    handle: async ({ query }, { context }) => ({
      items: await auditAfter(context.db, query.after ?? 0, query.limit ?? 1000),
    }),
  }),
  route({
    method: 'GET',
    path: '/api/v1/audit/verification',
    roles,
    tag,
    summary: 'Whether every row is there and as it was written',
    reply: AuditVerification,
    handle: (_input, { audit }) => audit.verify(),
  }),
];

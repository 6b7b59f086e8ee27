/** Recoveries: start, look, clean up. */
import { Type } from 'typebox';
import { closed, Name } from '#/api/common.ts';
import { RecoveryRequest, RecoveryView } from '#/api/recoveries.ts';
import { Answer, route, type Route } from './route.ts';

const roles = ['person'] as const;
const tag = 'recovery';
const ById = Type.Object({ id: Name }, closed);
const List = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
    before_ms: Type.Optional(Type.Integer({ minimum: 0 })),
  },
  closed,
);

export const RECOVERY_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/api/v1/recoveries',
    roles,
    tag,
    summary: 'Bring a VM up from its replica, for production or as an isolated test',
    body: RecoveryRequest,
    reply: RecoveryView,
    handle: async ({ body }, { recoveries }) => new Answer(202, JSON.stringify(await recoveries.start(body))),
  }),
  ...['/api/v1/recoveries', '/api/v1/jobs'].map((path) =>
    route({
      method: 'GET',
      path,
      roles,
      tag,
      summary: 'Recoveries, newest first, older than `before_ms`',
      query: List,
      reply: Type.Object({ items: Type.Array(RecoveryView) }, closed),
      handle: async ({ query }, { recoveries }) => ({
        items: await recoveries.list(query.limit ?? 100, query.before_ms ?? Number.MAX_SAFE_INTEGER),
      }),
    }),
  ),
  ...['/api/v1/recoveries/:id', '/api/v1/jobs/:id'].map((path) =>
    route({
      method: 'GET',
      path,
      roles,
      tag,
      summary: 'One recovery with its steps and progress',
      params: ById,
      reply: RecoveryView,
      handle: ({ params }, { recoveries }) => recoveries.show(params.id),
    }),
  ),
  route({
    method: 'POST',
    path: '/api/v1/recoveries/:id/cleanup',
    roles,
    tag,
    summary: 'End a test, cancel a recovery, or clear up after a failed one (its id, or its VM)',
    params: ById,
    reply: RecoveryView,
    handle: async ({ params }, { recoveries }) =>
      new Answer(202, JSON.stringify(await recoveries.cleanUp(params.id))),
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/recoveries/:id',
    roles,
    tag,
    summary: 'The same as its cleanup',
    params: ById,
    reply: RecoveryView,
    handle: async ({ params }, { recoveries }) =>
      new Answer(202, JSON.stringify(await recoveries.cleanUp(params.id))),
  }),
  route({
    method: 'POST',
    path: '/api/v1/recoveries/:id/retry',
    roles,
    tag,
    summary: 'Go on with a recovery for production that failed when its VM had come up',
    params: ById,
    reply: RecoveryView,
    handle: async ({ params }, { recoveries }) =>
      new Answer(202, JSON.stringify(await recoveries.retry(params.id))),
  }),
];

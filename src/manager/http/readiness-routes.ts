/** Whether recovery plans could be run now. */
import { Type } from 'typebox';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import { ReadinessView } from '#/api/readiness.ts';
import { route, type Route } from './route.ts';
import { page } from './views.ts';

const roles = ['person'] as const;
const tag = 'plans';

export const READINESS_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/readiness',
    roles,
    tag,
    summary: 'Readiness of all recovery plans, as it is now',
    query: PageQuery,
    reply: pageOf(ReadinessView),
    handle: async ({ query }, { readiness }) => page(await readiness.list(), query),
  }),
  route({
    method: 'GET',
    path: '/api/v1/plans/:id/readiness',
    roles,
    tag,
    summary:
      'What would keep a plan from coming up now, what it would lose and take, and when it was last proven',
    params: Type.Object({ id: Name }, closed),
    reply: ReadinessView,
    handle: ({ params }, { readiness }) => readiness.of(params.id),
  }),
];

/** Whether recovery plans could be run now. */
import { Type } from 'typebox';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import { ReadinessView } from '#/api/readiness.ts';
import { route, type Route } from './route.ts';
import { page, scopeFor } from './views.ts';

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
    handle: async ({ caller, query }, manager) => {
      const scope = await scopeFor(caller, manager);
      const plans = await manager.plans.list();
      const seen = plans
        .filter(({ document }) => scope.coversGroups(document.groups))
        .map(({ name }) => name);
      return page(
        (await manager.readiness.list()).filter(({ plan }) => seen.includes(plan)),
        query,
      );
    },
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

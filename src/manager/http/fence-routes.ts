/** Which site may run which VM, and letting a copy of this one run again. */
import { Type } from 'typebox';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import { FenceView, ReleaseRequest } from '#/api/fences.ts';
import { route, type Route } from './route.ts';
import { page, scopeFor } from './views.ts';

const roles = ['person'] as const;
const tag = 'fences';

export const FENCE_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/fences',
    roles,
    tag,
    summary:
      'The epoch of every VM that was ever protected from here or to here, and the site that may run it',
    query: PageQuery,
    reply: pageOf(FenceView),
    handle: async ({ caller, query }, manager) => {
      const scope = await scopeFor(caller, manager);
      const items = (await manager.fences.list()).filter((fence) => scope.coversVms([fence.vm_uuid]));
      return page(items, query);
    },
  }),
  route({
    method: 'POST',
    path: '/api/v1/fences/:vm/release',
    roles,
    tag,
    summary: 'Let the copy of this site run again, and the copy of the other site yield',
    params: Type.Object({ vm: Name }, closed),
    body: ReleaseRequest,
    reply: FenceView,
    handle: ({ params, body }, { fences }) => fences.release(params.vm, body),
  }),
];

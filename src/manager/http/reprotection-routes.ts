/** Protecting recovered VMs back to where they came from, and how replicas here were filled from old copies. */
import { Type } from 'typebox';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import { ProtectionView } from '#/api/protections.ts';
import { ReprotectionRequest, SeedView } from '#/api/reprotections.ts';
import { RetiredView } from '#/api/retired.ts';
import { Answer, route, type Route } from './route.ts';
import { page, protectionView } from './views.ts';

const roles = ['person'] as const;
const tag = 'protection';

export const REPROTECTION_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/api/v1/reprotections',
    roles,
    tag,
    summary:
      'Protect a VM that was recovered here to the site that it came from; 202 until that is under way',
    body: ReprotectionRequest,
    reply: ProtectionView,
    handle: async ({ body }, manager) => {
      const protection = await manager.reprotections.start(body);
      const view = await protectionView(manager, protection);
      return new Answer(protection.state === 'active' ? 200 : 202, JSON.stringify(view));
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/seeds/:vm',
    roles,
    tag,
    summary: 'How the replica of a VM was filled from the old copy of this site, and what only that copy had',
    params: Type.Object({ vm: Name }, closed),
    reply: SeedView,
    handle: ({ params }, { reprotections }) => reprotections.show(params.vm),
  }),
  route({
    method: 'GET',
    path: '/api/v1/retired',
    roles,
    tag,
    summary: 'Old copies that made room for their VMs on hosts of this site',
    query: PageQuery,
    reply: pageOf(RetiredView),
    handle: async ({ query }, { retired }) => page(await retired.list(), query),
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/retired/:id',
    roles,
    tag,
    summary: 'Remove such a copy for good, with its disks; 202 until its host has done so',
    params: Type.Object({ id: Name }, closed),
    reply: RetiredView,
    handle: async ({ params }, { retired }) =>
      new Answer(202, JSON.stringify(await retired.remove(params.id))),
  }),
];

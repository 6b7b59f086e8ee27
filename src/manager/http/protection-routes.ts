/** Protecting VMs, the replicas of this site and their points. */
import { Type } from 'typebox';
import { closed, Name, PAGE_MAX, pageOf, PageQuery } from '#/api/common.ts';
import {
  ProtectionChange,
  ProtectionChangeCheck,
  ProtectionCheck,
  ProtectionCheckQuery,
  ProtectionRequest,
  ProtectionView,
} from '#/api/protections.ts';
import { BookmarkRequest, BookmarkView, PointView, ReplicaView } from '#/api/replicas.ts';
import { Failure } from '#/lib/failure.ts';
import { Answer, route, type Route } from './route.ts';
import { page, protectionView, replicaView } from './views.ts';

const roles = ['person'] as const;
const tag = 'protection';
const ById = Type.Object({ id: Name }, closed);
const ToSite = Type.Object({ site: Type.Optional(Name) }, closed);
const Flag = Type.Optional(Type.Boolean());

export const PROTECTION_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/api/v1/protections',
    roles,
    tag,
    summary: 'Protect a VM of this site; 202 while the recovery site has not confirmed it',
    body: ProtectionRequest,
    reply: ProtectionView,
    handle: async ({ body }, manager) => {
      const protection = await manager.protections.protect(body);
      const view = await protectionView(manager, protection);
      return new Answer(protection.state === 'active' ? 200 : 202, JSON.stringify(view));
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/protection-check',
    roles,
    tag,
    summary: 'What protecting a VM would come to, or what speaks against it; changes nothing',
    query: ProtectionCheckQuery,
    reply: ProtectionCheck,
    handle: ({ query: { disks, ...asked } }, { protections }) =>
      protections.check({ ...asked, ...(disks === undefined ? {} : { disks: disks.split(',') }) }),
  }),
  route({
    method: 'GET',
    path: '/api/v1/protections',
    roles,
    tag,
    summary: 'What is protected here',
    query: PageQuery,
    reply: pageOf(ProtectionView),
    handle: async ({ query }, manager) => {
      const { items, total } = page(await manager.protections.list(), query);
      return { items: await Promise.all(items.map((item) => protectionView(manager, item))), total };
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/protections/:id',
    roles,
    tag,
    summary: 'One protection, by its id or by the name or UUID of its VM',
    params: ById,
    query: ToSite,
    reply: ProtectionView,
    handle: async ({ params, query }, manager) =>
      protectionView(manager, await manager.protections.find(params.id, query.site)),
  }),
  route({
    method: 'POST',
    path: '/api/v1/protections/:id/check',
    roles,
    tag,
    summary: 'What changing how a VM is protected would come to, or what speaks against it; changes nothing',
    params: ById,
    query: ToSite,
    body: ProtectionChange,
    reply: ProtectionChangeCheck,
    handle: async ({ body, params, query }, { protectionChanges, protections }) =>
      protectionChanges.check(await protections.find(params.id, query.site), body),
  }),
  route({
    method: 'POST',
    path: '/api/v1/protections/:id',
    roles,
    tag,
    summary: 'Change how a VM is protected; 202 while the recovery site has not confirmed it',
    params: ById,
    query: ToSite,
    body: ProtectionChange,
    reply: ProtectionView,
    handle: async ({ body, params, query }, manager) => {
      const before = await manager.protections.find(params.id, query.site);
      const after = await manager.protectionChanges.change(before, body);
      const view = await protectionView(manager, after);
      return new Answer(after.told_revision === after.revision ? 200 : 202, JSON.stringify(view));
    },
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/protections/:id',
    roles,
    tag,
    summary: 'Stop protecting a VM; its replica is kept unless `delete_replica` says otherwise',
    params: ById,
    query: Type.Object({ site: Type.Optional(Name), delete_replica: Flag }, closed),
    handle: async ({ params, query }, manager) => {
      const protection = await manager.protections.find(params.id, query.site);
      const left = await manager.protections.unprotect(protection, query.delete_replica ?? false);
      const view = await protectionView(manager, left ?? { ...protection, state: 'removing' });
      return new Answer(left === undefined ? 200 : 202, JSON.stringify(view));
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/replicas',
    roles,
    tag,
    summary: 'Replicas at this site',
    query: PageQuery,
    reply: pageOf(ReplicaView),
    handle: async ({ query }, manager) => {
      const { items, total } = page(await manager.replicas.list(), query);
      return { items: await Promise.all(items.map((item) => replicaView(manager, item))), total };
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/replicas/:id',
    roles,
    tag,
    summary: 'One replica, by its id or by its VM',
    params: ById,
    reply: ReplicaView,
    handle: async ({ params }, manager) => replicaView(manager, await manager.replicas.find(params.id)),
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/replicas/:id',
    roles,
    tag,
    summary: 'Delete a replica and its points; `force` when its VM is still protected',
    params: ById,
    query: Type.Object({ force: Flag }, closed),
    handle: async ({ params, query }, { replicas }) => {
      const replica = await replicas.find(params.id);
      if (replica.state === 'active' && query.force !== true) {
        throw new Failure('conflict', `the replica of ${replica.vm_name} is being replicated to`, {
          hint: `At the protected site: antipode unprotect ${replica.vm_name} --delete-replica`,
        });
      }
      await replicas.delete(replica);
    },
  }),
  route({
    method: 'POST',
    path: '/api/v1/replicas/:id/bookmarks',
    roles,
    tag,
    summary:
      'Give a recovery point a name and keep it by that, whatever the retention; again: another name or end',
    params: ById,
    body: BookmarkRequest,
    reply: BookmarkView,
    handle: async ({ body, params }, { bookmarks, replicas }) =>
      bookmarks.add(await replicas.find(params.id), body),
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/replicas/:id/bookmarks/:sequence',
    roles,
    tag,
    summary: 'Take a bookmark away; retention decides about the point again',
    params: Type.Object({ id: Name, sequence: Type.Integer({ minimum: 1 }) }, closed),
    handle: async ({ params }, { bookmarks, replicas }) =>
      bookmarks.remove(await replicas.find(params.id), params.sequence),
  }),
  route({
    method: 'GET',
    path: '/api/v1/points',
    roles,
    tag,
    summary: 'Recovery points of a replica (its id, or its VM), newest first',
    query: Type.Object({ replica: Name, ...PageQuery.properties }, closed),
    reply: pageOf(PointView),
    handle: async ({ query }, { context, replicas }) => {
      const replica = await replicas.find(query.replica);
      const { report } = context.inventory.replicaReport(replica.server_id, replica.id);
      const newestFirst = (report?.points ?? []).toReversed();
      const { items } = page(newestFirst, { limit: query.limit ?? PAGE_MAX, offset: query.offset ?? 0 });
      const names = new Map(replica.bookmarks.map(({ name, sequence }) => [sequence, name]));
      return {
        items: items.map((point) => ({ ...point, bookmark: names.get(point.sequence) ?? null })),
        total: report?.point_count ?? 0,
      };
    },
  }),
];

/** Recovery plans, protection groups and inventory mappings. */
import { Type } from 'typebox';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import {
  GroupMembers,
  ImportReply,
  ImportRequest,
  MappingQuery,
  MappingRequest,
  MappingView,
  PlanAddresses,
  PlanChange,
  PlanDetails,
  PlanFile,
  SavedMapping,
  SavedPlan,
} from '#/api/plan-files.ts';
import { GroupDocument, GroupView, PlanDocument, PlanView } from '#/api/plans.ts';
import { planView } from '#/manager/plans/plans.ts';
import { route, type Route } from './route.ts';
import { page, scopeFor } from './views.ts';

const roles = ['person'] as const;
const ById = Type.Object({ id: Name }, closed);
/** A thousand VMs with settings of their own. */
const DOCUMENT_BYTES_MAX = 4 * 1024 * 1024;

const MAPPING_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/mappings',
    roles,
    tag: 'mappings',
    summary: 'What networks, directories and hosts of paired sites become here',
    query: PageQuery,
    reply: pageOf(MappingView),
    handle: async ({ query }, { mappings }) => page(await mappings.list(), query),
  }),
  route({
    method: 'POST',
    path: '/api/v1/mappings',
    roles,
    tag: 'mappings',
    summary: 'Map something of a paired site to something here; checked at both sites',
    body: MappingRequest,
    reply: SavedMapping,
    handle: ({ body }, { mappings }) => mappings.add(body),
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/mappings',
    roles,
    tag: 'mappings',
    summary: 'Take a mapping back',
    query: MappingQuery,
    handle: ({ query }, { mappings }) => mappings.remove(query),
  }),
];

const GROUP_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/groups',
    roles,
    tag: 'groups',
    summary: 'Protection groups, and the plans that each is in',
    query: PageQuery,
    reply: pageOf(GroupView),
    handle: async ({ caller, query }, manager) => {
      const scope = await scopeFor(caller, manager);
      const items = await manager.groups.list();
      return page(
        items.filter(({ document }) => scope.coversGroups([document.name])),
        query,
      );
    },
  }),
  route({
    method: 'POST',
    path: '/api/v1/groups',
    roles,
    tag: 'groups',
    summary: 'Make a protection group of VMs that have replicas here',
    body: GroupDocument,
    reply: GroupView,
    handle: ({ body }, { groups }) => groups.create(body),
  }),
  route({
    method: 'GET',
    path: '/api/v1/groups/:id',
    roles,
    tag: 'groups',
    summary: 'One group, by its name or id',
    params: ById,
    reply: GroupView,
    handle: ({ params }, { groups }) => groups.show(params.id),
  }),
  route({
    method: 'POST',
    path: '/api/v1/groups/:id',
    roles,
    tag: 'groups',
    summary: 'Put another document in the place of a group',
    params: ById,
    body: GroupDocument,
    reply: GroupView,
    handle: ({ params, body }, { groups }) => groups.replace(params.id, body),
  }),
  route({
    method: 'POST',
    path: '/api/v1/groups/:id/vms',
    roles,
    tag: 'groups',
    summary: 'Add VMs to a group and take others out',
    params: ById,
    body: GroupMembers,
    reply: GroupView,
    handle: ({ params, body }, { groups }) => groups.change(params.id, body),
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/groups/:id',
    roles,
    tag: 'groups',
    summary: 'Delete a group that is in no plan',
    params: ById,
    handle: ({ params }, { groups }) => groups.delete(params.id),
  }),
];

const PLANS: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/plans',
    roles,
    tag: 'plans',
    summary: 'Recovery plans of this site',
    query: PageQuery,
    reply: pageOf(PlanView),
    handle: async ({ caller, query }, manager) => {
      const scope = await scopeFor(caller, manager);
      const items = (await manager.plans.list()).filter(({ document }) =>
        scope.coversGroups(document.groups),
      );
      return page(items.map(planView), query);
    },
  }),
  route({
    method: 'POST',
    path: '/api/v1/plans',
    roles,
    tag: 'plans',
    summary: 'Make a recovery plan',
    body: PlanDocument,
    bodyBytesMax: DOCUMENT_BYTES_MAX,
    reply: SavedPlan,
    handle: ({ body }, { plans }) => plans.create(body),
  }),
  route({
    method: 'POST',
    path: '/api/v1/plan-files',
    roles,
    tag: 'plans',
    summary: 'What a plan with its groups and mappings would change; with `apply`, change it, all or nothing',
    body: ImportRequest,
    bodyBytesMax: DOCUMENT_BYTES_MAX,
    reply: ImportReply,
    handle: ({ body }, { planImport }) => planImport.run(body),
  }),
  route({
    method: 'GET',
    path: '/api/v1/plans/:id',
    roles,
    tag: 'plans',
    summary: 'One plan, by its name or id',
    params: ById,
    reply: PlanView,
    handle: async ({ params }, { plans }) => planView(await plans.find(params.id)),
  }),
  route({
    method: 'POST',
    path: '/api/v1/plans/:id',
    roles,
    tag: 'plans',
    summary: 'Put another document in the place of a plan, if it still has the revision that is named',
    params: ById,
    body: PlanChange,
    bodyBytesMax: DOCUMENT_BYTES_MAX,
    reply: SavedPlan,
    handle: ({ params, body }, { plans }) => plans.replace(params.id, body.revision, body.document),
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/plans/:id',
    roles,
    tag: 'plans',
    summary: 'Delete a plan of which no run is under way',
    params: ById,
    handle: ({ params }, { plans }) => plans.delete(params.id),
  }),
  route({
    method: 'GET',
    path: '/api/v1/plans/:id/file',
    roles,
    tag: 'plans',
    summary: 'The plan with the groups and mappings that it stands on, as POST /api/v1/plan-files takes it',
    params: ById,
    reply: PlanFile,
    handle: ({ params }, { planImport }) => planImport.export(params.id),
  }),
  route({
    method: 'GET',
    path: '/api/v1/plans/:id/details',
    roles,
    tag: 'plans',
    summary: 'The VMs of a plan as a run would take them now, and what is wrong with it as things are',
    params: ById,
    reply: PlanDetails,
    handle: ({ params }, { plans }) => plans.details(params.id),
  }),
  route({
    method: 'GET',
    path: '/api/v1/plans/:id/addresses',
    roles,
    tag: 'plans',
    summary: 'The addresses that the VMs of a plan have now, and those that they are given here',
    params: ById,
    reply: PlanAddresses,
    handle: ({ params }, { plans }) => plans.addresses(params.id),
  }),
];

export const PLAN_ROUTES: readonly Route[] = [...MAPPING_ROUTES, ...GROUP_ROUTES, ...PLANS];

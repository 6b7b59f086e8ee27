/** The site as people see it: inventory, status, events, health. */
import { Type } from 'typebox';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import { EventView } from '#/api/events.ts';
import { Host, ReplicationServer, Site, Vm } from '#/api/inventory.ts';
import { SiteStatus } from '#/api/status.ts';
import { Failure } from '#/lib/failure.ts';
import type { Manager } from '#/manager/manager.ts';
import { eventsAfter, newestEvents } from '#/manager/store/event-store.ts';
import { removeMember } from '#/manager/store/member-store.ts';
import { eventStream, eventView } from './event-stream.ts';
import { route, type Route } from './route.ts';
import { hostView, page, serverView, sites, vms } from './views.ts';

const roles = ['person'] as const;
const tag = 'site';
const ById = Type.Object({ id: Name }, closed);
const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 }));
const Sequence = Type.Optional(Type.Integer({ minimum: 0 }));
const Health = Type.Object({ status: Type.Literal('ok'), site_name: Name }, closed);

const INVENTORY: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/health',
    roles: ['anonymous'],
    tag,
    summary: 'Whether the manager and its database answer',
    reply: Health,
    handle: async (_input, { context, peers }) => {
      await peers.list();
      return { status: 'ok', site_name: context.config.siteName };
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/site',
    roles,
    tag,
    summary: 'This site',
    reply: Site,
    handle: async (_input, manager) => (await sites(manager))[0],
  }),
  route({
    method: 'GET',
    path: '/api/v1/sites',
    roles,
    tag,
    summary: 'This site and those it is paired with',
    query: PageQuery,
    reply: pageOf(Site),
    handle: async ({ query }, manager) => page(await sites(manager), query),
  }),
  route({
    method: 'GET',
    path: '/api/v1/hosts',
    roles,
    tag,
    summary: 'Hosts of this site',
    query: PageQuery,
    reply: pageOf(Host),
    handle: async ({ query }, manager) =>
      page(
        manager.context.inventory.agents().map((agent) => hostView(manager, agent)),
        query,
      ),
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/hosts/:id',
    roles,
    tag,
    summary: 'Remove a host: its certificate is worth nothing from now on',
    params: ById,
    handle: ({ params }, manager) => removeProgram(manager, manager.context.inventory.agents(), params.id),
  }),
  route({
    method: 'GET',
    path: '/api/v1/replication-servers',
    roles,
    tag,
    summary: 'Replication servers of this site',
    query: PageQuery,
    reply: pageOf(ReplicationServer),
    handle: async ({ query }, manager) =>
      page(
        manager.context.inventory.servers().map((server) => serverView(manager, server)),
        query,
      ),
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/replication-servers/:id',
    roles,
    tag,
    summary: 'Remove a replication server that keeps no replica',
    params: ById,
    handle: async ({ params }, manager) => {
      const kept = (await manager.replicas.list()).find((replica) => replica.server_id === params.id);
      if (kept !== undefined) {
        throw new Failure('conflict', `the server keeps the replica of ${kept.vm_name}`, {
          hint: 'Unprotect its VMs with --delete-replica first.',
        });
      }
      return removeProgram(manager, manager.context.inventory.servers(), params.id);
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/vms',
    roles,
    tag,
    summary: 'VMs of this site, and why some cannot be protected',
    query: PageQuery,
    reply: pageOf(Vm),
    handle: async ({ query }, manager) => page(await vms(manager), query),
  }),
  route({
    method: 'GET',
    path: '/api/v1/vms/:id',
    roles,
    tag,
    summary: 'One VM of this site, by its UUID or name',
    params: ById,
    reply: Vm,
    handle: async ({ params }, manager) => {
      const { agent, vm } = manager.context.inventory.findVm(params.id);
      return (await vms(manager)).find((known) => known.uuid === vm.uuid && known.host_id === agent.id);
    },
  }),
];

const HAPPENINGS: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/status',
    roles,
    tag,
    summary: 'How every VM that is protected from here or to here stands',
    query: PageQuery,
    reply: SiteStatus,
    handle: async ({ query }, { context, status }) => {
      const { items, total } = page(await status.vms(), query);
      return {
        site_id: context.identity.siteId,
        site_name: context.config.siteName,
        now_ms: context.clock.now(),
        vms: items,
        total,
      };
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/events',
    roles,
    tag,
    summary: 'Events after a sequence, ascending; without one, the newest, of one subject if its id is given',
    query: Type.Object({ after: Sequence, limit: Limit, subject: Type.Optional(Name) }, closed),
    reply: Type.Object({ items: Type.Array(EventView) }, closed),
    handle: async ({ query }, { context }) => {
      const limit = query.limit ?? 100;
      const rows =
        query.after === undefined
          ? await newestEvents(context.db, limit, query.subject)
          : await eventsAfter(context.db, query.after, limit);
      return { items: rows.map(eventView) };
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/events/stream',
    roles,
    tag,
    summary: 'Live stream of events; Last-Event-ID, or `after`, resumes it',
    query: Type.Object({ after: Sequence }, closed),
    handle: ({ query, lastEventId }, manager) => eventStream(manager, lastEventId ?? query.after),
  }),
];

export const SITE_ROUTES: readonly Route[] = [...INVENTORY, ...HAPPENINGS];

async function removeProgram(
  { context }: Manager,
  members: readonly { id: string; name: string }[],
  which: string,
): Promise<void> {
  const { changes, clock, db, events, inventory } = context;
  const member = members.find((known) => known.id === which);
  if (member === undefined) {
    throw new Failure('not_found', `there is no program ${which}`, {
      hint: 'List them with: antipode hosts, antipode replication-servers. Name one by its id.',
    });
  }
  await db.transaction().execute(async (at) => {
    await removeMember(at, member.id, clock.now());
    await events.record(at, {
      kind: 'member.removed',
      severity: 'warning',
      subject: { kind: 'member', id: member.id },
      message: `${member.name} was removed from this site`,
    });
  });
  inventory.remove(member.id);
  changes.notify('orders');
}

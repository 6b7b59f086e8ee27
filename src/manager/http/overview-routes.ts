/** The site at a glance, and all of its VMs in one list. */
import { Overview } from '#/api/overview.ts';
import { VmTable, VmTableQuery } from '#/api/vm-table.ts';
import { route, type Route } from './route.ts';

const roles = ['person'] as const;
const tag = 'site';

export const OVERVIEW_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/overview',
    roles,
    tag,
    summary: 'How the VMs of this site stand, what flows between the sites, and what waits for a person',
    reply: Overview,
    handle: (_input, { view }) => view.overview(),
  }),
  route({
    method: 'GET',
    path: '/api/v1/vm-table',
    roles,
    tag,
    summary: 'Every VM of this site and every replica here, searched, sorted and paged',
    query: VmTableQuery,
    reply: VmTable,
    handle: ({ query }, { view }) => view.table(query),
  }),
];

/** Rebuilding the database of this site when it was lost. */
import { RebuildRequest, RebuildView } from '#/api/rebuild.ts';
import { route, type Route } from './route.ts';

const roles = ['person'] as const;
const tag = 'rebuild';

export const REBUILD_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/rebuild',
    roles,
    tag,
    summary: 'Whether the database of this site was lost, and what can be taken in again',
    reply: RebuildView,
    handle: (_input, { rebuild }) => rebuild.view(),
  }),
  route({
    method: 'POST',
    path: '/api/v1/rebuild',
    roles,
    tag,
    duringRebuild: true,
    summary:
      'Let programs of this site in again and rebuild from what they and paired sites know; repeated until done',
    body: RebuildRequest,
    reply: RebuildView,
    handle: ({ body }, { rebuild }) => rebuild.apply(body),
  }),
  route({
    method: 'POST',
    path: '/api/v1/rebuild/abandon',
    roles,
    tag,
    duringRebuild: true,
    summary: 'Start with an empty database: programs join again, pairings are made again',
    reply: RebuildView,
    handle: (_input, { rebuild }) => rebuild.abandon(),
  }),
];

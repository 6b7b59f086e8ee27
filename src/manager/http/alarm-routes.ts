/** What is wrong at the site, and people who have it in hand. */
import { Type } from 'typebox';
import { AlarmAcknowledgement, AlarmView } from '#/api/alarms.ts';
import { closed, Id } from '#/api/common.ts';
import { Failure } from '#/lib/failure.ts';
import { route, type Route } from './route.ts';

const roles = ['administrator'] as const;
const tag = 'alarms';
const LISTED = 200;
const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 }));

export const ALARM_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/alarms',
    roles,
    tag,
    summary: 'Alarms: those that stand, then those that are over, newest first',
    query: Type.Object({ limit: Limit }, closed),
    reply: Type.Object({ items: Type.Array(AlarmView) }, closed),
    handle: async ({ query }, manager) => ({ items: await manager.alarms.list(query.limit ?? LISTED) }),
  }),
  route({
    method: 'POST',
    path: '/api/v1/alarms/:id/acknowledge',
    roles,
    tag,
    summary: 'Say that somebody has an alarm in hand',
    params: Type.Object({ id: Id }, closed),
    body: AlarmAcknowledgement,
    reply: AlarmView,
    handle: async ({ params, body, caller }, manager) => {
      if (caller.role !== 'administrator') throw new Failure('forbidden', 'only people acknowledge alarms');
      return manager.alarms.acknowledge(params.id, { name: caller.name, note: body.note ?? null });
    },
  }),
];

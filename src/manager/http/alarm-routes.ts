/** What is wrong at the site, people who have it in hand, and figures for those who watch by programs. */
import { Type } from 'typebox';
import { AlarmAcknowledgement, AlarmView } from '#/api/alarms.ts';
import { closed, Id } from '#/api/common.ts';
import { Failure } from '#/lib/failure.ts';
import { metricFacts } from '#/manager/metrics/metric-facts.ts';
import { METRICS_TYPE, metricsText } from '#/manager/metrics/metrics.ts';
import { Answer, route, type Route } from './route.ts';

const roles = ['person'] as const;
const tag = 'alarms';
const LISTED = 200;
const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 }));

export const ALARM_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/metrics',
    roles,
    tag,
    summary: 'Figures of the site in the text format of Prometheus',
    handle: async (_input, manager) =>
      new Answer(200, await metricsText(await metricFacts(manager.context, manager)), METRICS_TYPE),
  }),
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
      if (caller.role !== 'person') throw new Failure('forbidden', 'only people acknowledge alarms');
      return manager.alarms.acknowledge(params.id, { name: caller.name, note: body.note ?? null });
    },
  }),
];

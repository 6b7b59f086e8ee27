/** Whether the manager lives, and is of use: for load balancers, without login and without anything secret. */
import { Alive, Ready } from '#/api/health.ts';
import { Answer, route, type Route } from './route.ts';

const roles = ['anonymous'] as const;
const tag = 'health';

export const HEALTH_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/healthz',
    roles,
    tag,
    summary: 'The manager is alive; nothing else is looked at',
    reply: Alive,
    handle: async ({ remoteAddress }, { health }) => {
      health.count(remoteAddress);
      return { status: 'alive' };
    },
  }),
  route({
    method: 'GET',
    path: '/readyz',
    roles,
    tag,
    summary: 'Whether the manager can serve: status 200, or 503 and what fails',
    reply: Ready,
    handle: async ({ remoteAddress }, { health }) => {
      health.count(remoteAddress);
      const checks = await health.checks();
      const isReady = Object.values(checks).every((word) => word === 'ok');
      const body = { status: isReady ? 'ready' : 'not_ready', checks };
      return new Answer(isReady ? 200 : 503, body, undefined, { 'cache-control': 'no-store' });
    },
  }),
];

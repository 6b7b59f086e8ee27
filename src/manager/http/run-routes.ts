/** Runs of recovery plans: check, start, look, answer, cancel, resume, clean up. */
import { Type } from 'typebox';
import { closed, Id, Milliseconds, Name } from '#/api/common.ts';
import { RunReprotection } from '#/api/reprotections.ts';
import { RunCheck, RunRequest, RunView, StepAnswerRequest, StepSkipRequest } from '#/api/runs.ts';
import { Answer, route, type Caller, type Route } from './route.ts';
import { scopeFor } from './views.ts';

const roles = ['person'] as const;
const tag = 'runs';
const ById = Type.Object({ id: Name }, closed);
const ByStep = Type.Object({ id: Name, key: Id }, closed);
const List = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
    before_ms: Type.Optional(Milliseconds),
  },
  closed,
);

export const RUN_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/api/v1/runs',
    roles,
    tag,
    summary: 'Run a plan: a test, a planned migration, or a disaster recovery',
    body: RunRequest,
    reply: RunView,
    handle: async ({ body, caller }, { runs }) =>
      new Answer(202, JSON.stringify(await runs.start(body, nameOf(caller)))),
  }),
  route({
    method: 'POST',
    path: '/api/v1/runs/check',
    roles,
    tag,
    summary: 'What would speak against a run, and how old each VM would come up; changes nothing',
    body: RunRequest,
    reply: RunCheck,
    handle: ({ body }, { runs }) => runs.check(body),
  }),
  route({
    method: 'GET',
    path: '/api/v1/runs',
    roles,
    tag,
    summary: 'Runs without their steps, newest first, older than `before_ms`',
    query: List,
    reply: Type.Object({ items: Type.Array(RunView) }, closed),
    handle: async ({ caller, query }, manager) => {
      const scope = await scopeFor(caller, manager);
      const items = await manager.runs.list(query.limit ?? 100, query.before_ms ?? Number.MAX_SAFE_INTEGER);
      return { items: items.filter(({ vms }) => scope.coversVms(vms.map((vm) => vm.vm_uuid))) };
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/runs/:id',
    roles,
    tag,
    summary: 'One run with its steps (its id, or its plan, whose newest run it is)',
    params: ById,
    reply: RunView,
    handle: ({ params }, { runs }) => runs.show(params.id),
  }),
  route({
    method: 'POST',
    path: '/api/v1/runs/:id/cancel',
    roles,
    tag,
    summary:
      'Stop a run: a test is cleaned up, a migration taken back, a disaster recovery starts nothing more',
    params: ById,
    reply: RunView,
    handle: async ({ params, caller }, { runs }) =>
      new Answer(202, JSON.stringify(await runs.cancel(params.id, nameOf(caller)))),
  }),
  route({
    method: 'POST',
    path: '/api/v1/runs/:id/resume',
    roles,
    tag,
    summary: 'Go on with a run that failed or was stopped; what failed is tried again',
    params: ById,
    reply: RunView,
    handle: async ({ params, caller }, { runs }) =>
      new Answer(202, JSON.stringify(await runs.resume(params.id, nameOf(caller)))),
  }),
  route({
    method: 'POST',
    path: '/api/v1/runs/:id/cleanup',
    roles,
    tag,
    summary: 'Remove everything that a test made',
    params: ById,
    reply: RunView,
    handle: async ({ params, caller }, { runs }) =>
      new Answer(202, JSON.stringify(await runs.cleanUp(params.id, nameOf(caller)))),
  }),
  route({
    method: 'POST',
    path: '/api/v1/runs/:id/steps/:key/answer',
    roles,
    tag,
    summary: 'Answer a message of a run: go on, or stop',
    params: ByStep,
    body: StepAnswerRequest,
    reply: RunView,
    handle: ({ params, body, caller }, { runs }) =>
      runs.answer(params.id, params.key, body.answer, nameOf(caller)),
  }),
  route({
    method: 'POST',
    path: '/api/v1/runs/:id/steps/:key/skip',
    roles,
    tag,
    summary:
      'Have a run that failed go on without a step, when it is resumed; not without one that keeps VMs safe',
    params: ByStep,
    body: StepSkipRequest,
    reply: RunView,
    handle: ({ params, body, caller }, { runs }) =>
      runs.skip(params.id, params.key, body.reason, nameOf(caller)),
  }),
  route({
    method: 'POST',
    path: '/api/v1/runs/:id/reprotection',
    roles,
    tag,
    summary:
      'Protect every VM that a run brought up to the site that it came from; 202 while that is under way',
    params: ById,
    reply: RunReprotection,
    handle: async ({ params }, { planReprotections }) =>
      new Answer(202, JSON.stringify(await planReprotections.start(params.id))),
  }),
  route({
    method: 'GET',
    path: '/api/v1/runs/:id/reprotection',
    roles,
    tag,
    summary: 'How each VM that a run brought up stands on its way to being protected again',
    params: ById,
    reply: RunReprotection,
    handle: ({ params }, { planReprotections }) => planReprotections.show(params.id),
  }),
];

function nameOf(caller: Caller): string {
  return caller.role === 'person' ? caller.name : caller.role;
}

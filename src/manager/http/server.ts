/**
 * The manager's HTTP server: one application, reached over HTTPS by programs, other sites and administrators, and over
 * a Unix socket by root.
 */
import swagger, { type FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Socket } from 'node:net';
import { Failure, failureIn } from '#/lib/failure.ts';
import { BODY_BYTES_MAX } from '#/manager/limits.ts';
import type { Manager } from '#/manager/manager.ts';
import { problemOf } from '#/manager/problem.ts';
import { isRebuilding, rebuildingFailure } from '#/manager/rebuild/rebuild-state.ts';
import { AuditTrail } from './audit-trail.ts';
import { Authenticator } from './authenticate.ts';
import { documentHead, documentOf } from './openapi-document.ts';
import { authorizeRole, authorizeSubject } from '#/manager/access/authorize.ts';
import type { Sent } from '#/manager/access/rule.ts';
import { Answer, StreamAnswer, UpgradeAnswer, type Caller, type Route } from './route.ts';
import { ROUTES } from './routes.ts';
import { endWhenRefused } from './stream-admission.ts';
import { securityHeaders } from './security-headers.ts';
import { leaveHttp, requireUpgrade } from './upgrades.ts';
import { Schemas } from './validate.ts';

/** Sockets of the Unix listener; whatever is not among them came over TLS. */
export type UnixSockets = WeakSet<Socket>;

export async function createApplication(
  manager: Manager,
  unixSockets: UnixSockets,
): Promise<FastifyInstance> {
  const application = Fastify({
    bodyLimit: BODY_BYTES_MAX,
  });
  // The plugin's types do not know mutualTLS, which OpenAPI 3.1 does.
  await application.register(swagger, {
    openapi: documentHead() as unknown as OpenApi,
  });
  const authenticator = new Authenticator(manager);
  const schemas = new Schemas();
  // Bodies are checked by the same compiled schemas everywhere; Fastify's own validator would guess types.
  application.setValidatorCompiler(() => () => true);
  application.setSerializerCompiler(() => (value) => JSON.stringify(value));
  application.setErrorHandler((error, _request, reply) => sendFailure(manager, reply, error));
  application.setNotFoundHandler((request, reply) =>
    sendFailure(
      manager,
      reply,
      new Failure('not_found', `there is no ${request.method} ${pathOf(request)}`, {
        hint: 'The address /api of the manager lists all calls.',
      }),
    ),
  );
  application.addHook('onRequest', async (request, reply) => {
    for (const [name, value] of Object.entries(securityHeaders(request.url))) {
      // On the connection itself, so that streams have them too.
      reply.raw.setHeader(name, value);
    }
  });
  for (const route of ROUTES) {
    application.route({
      method: route.method,
      url: route.path,
      schema: documentOf(route),
      ...(route.bodyBytesMax === undefined ? {} : { bodyLimit: route.bodyBytesMax }),
      onRequest: async (request) => {
        // Before the body is read: a stranger makes the manager read nothing.
        const caller = await admit(route, request, authenticator, unixSockets);
        await mayCall(route, request, { caller, manager });
        callers.set(request, caller);
      },
      handler: (request, reply) => {
        const admitAgain = async (sent: Sent): Promise<void> => {
          const caller = await admit(route, request, authenticator, unixSockets);
          if (caller.role !== 'person') return;
          authorizeRole(route, caller);
          await authorizeSubject(route, caller, sent, manager);
        };
        return answer({ route, request, reply, manager, schemas, admitAgain });
      },
    });
  }
  await application.ready();
  return application;
}

type OpenApi = NonNullable<FastifyDynamicSwaggerOptions['openapi']>;

const callers = new WeakMap<FastifyRequest, Caller>();

async function admit(
  route: Route,
  request: FastifyRequest,
  authenticator: Authenticator,
  unixSockets: UnixSockets,
): Promise<Caller> {
  if (route.roles.includes('anonymous')) return { role: 'anonymous' };
  const caller = await authenticator.caller(request.raw, unixSockets.has(request.raw.socket));
  if (route.roles.includes(caller.role)) return caller;
  if (caller.role === 'anonymous') {
    throw new Failure('unauthenticated', `${request.method} ${pathOf(request)} is not for everybody`, {
      hint: 'Sign in, present a bearer token (antipode token NAME), or use the Unix socket of the manager as root.',
    });
  }
  throw new Failure('forbidden', `a ${caller.role} may not ${request.method} ${pathOf(request)}`, {
    hint: `It is for: ${route.roles.join(', ')}.`,
  });
}

async function answer(call: {
  route: Route;
  request: FastifyRequest;
  reply: FastifyReply;
  manager: Manager;
  schemas: Schemas;
  admitAgain: (sent: Sent) => Promise<void>;
}): Promise<unknown> {
  const { route, request, reply, manager, schemas } = call;
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  const caller = callers.get(request) ?? { role: 'anonymous' };
  const trail = new AuditTrail(manager.audit, route, { caller, request });
  let result: unknown;
  let sent: Sent;
  try {
    await checkRebuild(route, manager);
    if (route.upgrade !== undefined) requireUpgrade(route.upgrade, request.raw);
    sent = {
      params: schemas.check('params', route.params, request.params),
      query: schemas.check('query', route.query, request.query),
      body: schemas.check('body', route.body, request.body),
    };
    if (caller.role === 'person') await authorizeSubject(route, caller, sent, manager);
    await trail.begin();
    result = await route.handle(
      {
        ...sent,
        caller,
        remoteAddress: request.raw.socket.remoteAddress ?? 'unix',
        headers: request.headers,
        path: pathOf(request),
        userAgent: request.headers['user-agent'] ?? '',
        lastEventId: lastEventId(request.headers['last-event-id']),
        signal: gone.signal,
      },
      manager,
    );
  } catch (error) {
    await trail.end(failureIn(error)?.code ?? 'bug');
    throw error;
  }
  // Before the caller hears of it: what was told to be done is on record.
  await trail.end('ok');
  if (result instanceof StreamAnswer || result instanceof UpgradeAnswer) {
    void endWhenRefused(manager.context, () => call.admitAgain(sent), gone);
  }
  return send({ request, reply, result, gone });
}

/** What a person may not do is on record too. */
async function mayCall(
  route: Route,
  request: FastifyRequest,
  { caller, manager }: { caller: Caller; manager: Manager },
): Promise<void> {
  if (caller.role !== 'person') return;
  try {
    authorizeRole(route, caller);
  } catch (error) {
    await new AuditTrail(manager.audit, route, { caller, request }).end('forbidden');
    throw error;
  }
}

/** Before its database is rebuilt, a site changes nothing and answers no other site: it would speak of nothing. */
async function checkRebuild(route: Route, { context }: Manager): Promise<void> {
  const isPeer = route.roles.includes('peer-manager');
  const isChange = route.roles.includes('person') && route.method !== 'GET';
  if ((!isPeer && !isChange) || route.duringRebuild === true) return;
  if (await isRebuilding(context.db)) throw rebuildingFailure(context.config.siteName);
}

async function send(call: {
  request: FastifyRequest;
  reply: FastifyReply;
  result: unknown;
  gone: AbortController;
}): Promise<unknown> {
  const { gone, reply, request, result } = call;
  if (result instanceof StreamAnswer) {
    reply.hijack();
    await result.run(reply.raw, gone.signal);
    return reply;
  }
  if (result instanceof UpgradeAnswer) {
    reply.hijack();
    await result.run(request.raw, leaveHttp(request.raw, reply.raw, gone), gone.signal);
    return reply;
  }
  if (result instanceof Answer) {
    return reply.code(result.status).headers(result.headers).type(result.type).send(result.body);
  }
  return reply.send(result ?? {});
}

function sendFailure(manager: Manager, reply: FastifyReply, error: unknown): FastifyReply {
  const failure = failureIn(error) ?? fromFastify(error);
  if (failure === undefined) {
    const stack = error instanceof Error ? error.stack : String(error);
    manager.context.log.error('request.bug', { stack });
    return reply
      .code(500)
      .send({ code: 'bug', message: 'the manager failed; its log says more', hint: null });
  }
  return reply.code(failure.httpStatus).send(problemOf(failure));
}

/** Fastify's own refusals: a body that is no JSON, too long, of another type. */
function fromFastify(error: unknown): Failure | undefined {
  const { statusCode, message } = error as { statusCode?: number; message?: string };
  if (statusCode === undefined || statusCode < 400 || statusCode >= 500) return undefined;
  const code = statusCode === 413 ? 'limit_exceeded' : 'usage_invalid';
  return new Failure(code, `the request was not understood: ${message ?? 'no reason given'}`);
}

function lastEventId(header: string | string[] | undefined): number | undefined {
  return typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?')[0]!.slice(0, 256);
}

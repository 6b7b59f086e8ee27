/**
 * The manager's HTTP server: one application, reached over HTTPS by programs, other sites and administrators, and over
 * a Unix socket by root.
 */
import swagger, { type FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Socket } from 'node:net';
import { Failure, failureIn, type FailureCode } from '#/lib/failure.ts';
import { BODY_BYTES_MAX } from '#/manager/limits.ts';
import type { Manager } from '#/manager/manager.ts';
import { problemOf } from '#/manager/problem.ts';
import { isRebuilding, rebuildingFailure } from '#/manager/rebuild/rebuild-state.ts';
import { addAudit } from '#/manager/store/event-store.ts';
import { Authenticator } from './authenticate.ts';
import { documentHead, documentOf } from './openapi-document.ts';
import { authorizeRole, authorizeSubject } from '#/manager/access/authorize.ts';
import { Answer, StreamAnswer, type Caller, type Route } from './route.ts';
import { ROUTES } from './routes.ts';
import { endWhenRefused } from './stream-admission.ts';
import { securityHeaders } from './security-headers.ts';
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
        callers.set(request, caller);
      },
      handler: (request, reply) => {
        const admitAgain = async (): Promise<void> => {
          await admit(route, request, authenticator, unixSockets);
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
  if (route.roles.includes(caller.role)) {
    if (caller.role === 'person') authorizeRole(route, caller);
    return caller;
  }
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
  admitAgain: () => Promise<void>;
}): Promise<unknown> {
  const { route, request, reply, manager, schemas } = call;
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  const caller = callers.get(request) ?? { role: 'anonymous' };
  let outcome: FailureCode | 'ok' | 'bug' = 'bug';
  try {
    await checkRebuild(route, manager);
    const sent = {
      params: schemas.check('params', route.params, request.params),
      query: schemas.check('query', route.query, request.query),
      body: schemas.check('body', route.body, request.body),
    };
    if (caller.role === 'person') await authorizeSubject(route, caller, sent, manager);
    const result = await route.handle(
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
    outcome = 'ok';
    if (result instanceof StreamAnswer) void endWhenRefused(manager.context, call.admitAgain, gone);
    return await send(reply, result, gone.signal);
  } catch (error) {
    outcome = failureIn(error)?.code ?? 'bug';
    throw error;
  } finally {
    if (caller.role === 'person' && route.method !== 'GET') {
      await audit(manager, { actor: caller.name, request, outcome });
    }
  }
}

/** Before its database is rebuilt, a site changes nothing and answers no other site: it would speak of nothing. */
async function checkRebuild(route: Route, { context }: Manager): Promise<void> {
  const isPeer = route.roles.includes('peer-manager');
  const isChange = route.roles.includes('person') && route.method !== 'GET';
  if ((!isPeer && !isChange) || route.duringRebuild === true) return;
  if (await isRebuilding(context.db)) throw rebuildingFailure(context.config.siteName);
}

async function send(reply: FastifyReply, result: unknown, signal: AbortSignal): Promise<unknown> {
  if (result instanceof StreamAnswer) {
    reply.hijack();
    await result.run(reply.raw, signal);
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

async function audit(
  manager: Manager,
  entry: { actor: string; request: FastifyRequest; outcome: string },
): Promise<void> {
  const { clock, db } = manager.context;
  const { body, method } = entry.request;
  const named = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  // Only what names the subject is recorded: bodies may carry tokens.
  const subject = ['vm', 'kind', 'name', 'site'].flatMap((key) =>
    typeof named[key] === 'string' ? [`${key}=${named[key].slice(0, 255)}`] : [],
  );
  await addAudit(db, {
    at_ms: clock.now(),
    actor: entry.actor,
    action: `${method} ${pathOf(entry.request)}`.slice(0, 512),
    subject: subject.join(' '),
    outcome: entry.outcome,
  });
}

function lastEventId(header: string | string[] | undefined): number | undefined {
  return typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?')[0]!.slice(0, 256);
}

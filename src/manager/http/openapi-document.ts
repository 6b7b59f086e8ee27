/** The OpenAPI document of the manager: made of the table of routes, as is the server itself. */
import swagger, { type FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import Fastify from 'fastify';
import { ruleOf } from '#/manager/access/endpoints.ts';
import type { Route } from './route.ts';

/** The document as a manager with these routes serves it, without a manager. */
export async function openApiDocument(routes: readonly Route[]): Promise<unknown> {
  const application = Fastify();
  type OpenApi = NonNullable<FastifyDynamicSwaggerOptions['openapi']>;
  await application.register(swagger, { openapi: documentHead() as unknown as OpenApi });
  application.setValidatorCompiler(() => () => true);
  application.setSerializerCompiler(() => (value) => JSON.stringify(value));
  for (const route of routes) {
    application.route({
      method: route.method,
      url: route.path,
      schema: documentOf(route),
      handler: async () => ({}),
    });
  }
  await application.ready();
  const document: unknown = application.swagger();
  await application.close();
  return document;
}

export function documentHead() {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Antipode manager',
      version: '1',
      description:
        'Site recovery for KVM. Times are integer milliseconds since the Unix epoch. ' +
        'Every refusal is a problem with a code, a message and, where there is a way out, a hint.',
    },
    components: {
      securitySchemes: {
        token: { type: 'http' as const, scheme: 'bearer' },
        session: { type: 'apiKey' as const, in: 'cookie' as const, name: '__Host-antipode-SITE' },
        program: { type: 'mutualTLS' as const },
      },
    },
  };
}

export function documentOf(route: Route): Record<string, unknown> {
  if (route.isHidden === true) return { hide: true };
  const isOpen = route.roles.includes('anonymous');
  const security = isOpen
    ? []
    : route.roles.includes('person')
      ? [{ token: [] }, { session: [] }]
      : [{ program: [] }];
  return {
    summary: route.summary,
    description: `For: ${whoMay(route)}.`,
    tags: [route.tag],
    security,
    ...(route.params === undefined ? {} : { params: route.params }),
    ...(route.query === undefined ? {} : { querystring: route.query }),
    ...(route.body === undefined ? {} : { body: route.body }),
    ...(route.reply === undefined
      ? {}
      : { response: { 200: { description: 'Done', content: jsonOf(route.reply) } } }),
  };
}

function whoMay(route: Route): string {
  const { needs, of } = ruleOf(route);
  if (!route.roles.includes('person')) return route.roles.join(', ');
  if (needs === undefined) return 'everybody who has signed in';
  const isOnGroup = of !== undefined;
  return `people with ${needs.join(' or ')}${isOnGroup ? ', on everything or on its protection group' : ''}`;
}

function jsonOf(schema: NonNullable<Route['reply']>) {
  return { 'application/json': { schema } };
}

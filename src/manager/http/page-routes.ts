/** The page of the API, for people, and the document it is made from. */
import { apiPage } from './api-page.ts';
import { API_PAGE_POLICY } from './security-headers.ts';
import { Answer, route, type Route } from './route.ts';

const roles = ['anonymous'] as const;
const tag = 'document';

export const PAGE_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/openapi.json',
    roles,
    tag,
    summary: 'This API as an OpenAPI 3.1 document',
    handle: async (_input, manager) => manager.document(),
  }),
  ...['/', '/api'].map((path) =>
    route({
      method: 'GET',
      path,
      roles,
      tag,
      summary: 'The page of this API',
      handle: async (_input, manager) =>
        new Answer(
          200,
          apiPage(manager.context.config.siteName, manager.document()),
          'text/html; charset=utf-8',
          { 'content-security-policy': API_PAGE_POLICY },
        ),
    }),
  ),
];

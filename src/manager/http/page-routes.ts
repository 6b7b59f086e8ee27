/** The web page, the page of the API for people, and the document that both are made from. */
import { Type } from 'typebox';
import { closed, Name } from '#/api/common.ts';
import { Failure } from '#/lib/failure.ts';
import { apiPage } from './api-page.ts';
import { API_PAGE_POLICY } from './security-headers.ts';
import { Answer, route, type Route } from './route.ts';
import { WebFiles } from './web-files.ts';

const roles = ['anonymous'] as const;
const tag = 'document';
const files = new WebFiles();
const API = /^\/(api|peer|control)(\/|$)/;

const WEB: readonly Route[] = [
  route({
    method: 'GET',
    path: '/',
    roles,
    tag,
    isHidden: true,
    summary: 'The web page',
    handle: ({ headers }) => files.page(headers['accept-encoding']),
  }),
  route({
    method: 'GET',
    path: '/assets/:name',
    roles,
    tag,
    isHidden: true,
    summary: 'A file of the web page',
    params: Type.Object({ name: Name }, closed),
    handle: ({ headers, params }) => files.asset(params.name, headers['accept-encoding']),
  }),
  route({
    method: 'GET',
    path: '/*',
    roles,
    tag,
    isHidden: true,
    summary: 'The web page again: what it shows depends on its address',
    handle: async ({ headers, path }) => {
      // A mistaken call is told so, instead of being answered with a page.
      if (API.test(path)) {
        throw new Failure('not_found', `there is no GET ${path}`, {
          hint: 'The address /api of the manager lists all calls.',
        });
      }
      return files.page(headers['accept-encoding']);
    },
  }),
];

export const PAGE_ROUTES: readonly Route[] = [
  ...WEB,
  route({
    method: 'GET',
    path: '/api/v1/openapi.json',
    roles,
    tag,
    summary: 'This API as an OpenAPI 3.1 document',
    handle: async (_input, manager) => manager.document(),
  }),
  route({
    method: 'GET',
    path: '/api',
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
];

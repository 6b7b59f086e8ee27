/** Tokens and pairing. */
import { Type } from 'typebox';
import type { Grant } from '#/api/access.ts';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import { Site } from '#/api/inventory.ts';
import {
  AdmissionTokenReply,
  ApiTokenReply,
  ApiTokenRequest,
  ApiTokenView,
  JoinTokenRequest,
  PairingRequest,
} from '#/api/tokens.ts';
import { Failure } from '#/lib/failure.ts';
import { ADMINISTRATOR } from '#/manager/access/grants.ts';
import { listApiTokens, removeApiToken } from '#/manager/store/token-store.ts';
import { route, type Route } from './route.ts';
import { page, sites } from './views.ts';

const roles = ['person'] as const;
const tag = 'administration';

export const ADMIN_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/api/v1/join-tokens',
    roles,
    tag,
    duringRebuild: true,
    summary: 'A token that admits one agent or replication server, within the hour; shown once',
    body: JoinTokenRequest,
    reply: AdmissionTokenReply,
    handle: ({ body }, { admission }) => admission.createToken(body.kind),
  }),
  route({
    method: 'POST',
    path: '/api/v1/pairing-tokens',
    roles,
    tag,
    duringRebuild: true,
    summary: 'A token for the manager of another site, to pair with this one; shown once',
    reply: AdmissionTokenReply,
    handle: (_input, { peers }) => peers.createToken(),
  }),
  route({
    method: 'POST',
    path: '/api/v1/pairings',
    roles,
    tag,
    duringRebuild: true,
    summary: "Pair with the site that made the token: both trust each other's programs from now on",
    body: PairingRequest,
    reply: Site,
    handle: async ({ body }, manager) => {
      const peer = await manager.peers.pair(body.token);
      return (await sites(manager)).find((site) => site.id === peer.site_id);
    },
  }),
  route({
    method: 'POST',
    path: '/api/v1/tokens',
    roles,
    tag,
    duringRebuild: true,
    summary: 'A bearer token, for everything or for what its roles are for; shown once',
    body: ApiTokenRequest,
    reply: ApiTokenReply,
    handle: async ({ body }, { admission, userAdmin }) => {
      const grants = body.grants === undefined ? ADMINISTRATOR : await userAdmin.grants(body.grants);
      return admission.createApiToken(body.name, grants, body.expires_ms ?? null);
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/tokens',
    roles,
    tag,
    duringRebuild: true,
    summary: 'Bearer tokens, without their secrets',
    query: PageQuery,
    reply: pageOf(ApiTokenView),
    handle: async ({ query }, { context }) => {
      const rows = await listApiTokens(context.db);
      return page(
        rows.map((row) => ({ ...row, grants: JSON.parse(row.grants) as Grant[] })),
        query,
      );
    },
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/tokens/:id',
    roles,
    tag,
    duringRebuild: true,
    summary: 'Revoke a token',
    params: Type.Object({ id: Name }, closed),
    handle: async ({ params }, { context }) => {
      if (await removeApiToken(context.db, params.id)) return context.changes.notify('access');
      throw new Failure('not_found', `there is no token ${params.id}`, {
        hint: 'List them with: antipode tokens',
      });
    },
  }),
];

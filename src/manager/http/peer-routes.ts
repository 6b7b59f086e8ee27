/** What the managers of paired sites call. */
import { Type } from 'typebox';
import {
  ClaimAnswers,
  ClaimsTold,
  InventoryAnswer,
  InventoryQuestion,
  DOCUMENT_CHARACTERS_MAX,
  DocumentTold,
  PairRequest,
  PeerMemory,
  ReplicaChange,
  ReplicaChanged,
  PeerVersion,
  ReplicaGrant,
  ReplicaRemoval,
  ReplicaRequest,
  RetentionQuestion,
  ReverseMapping,
  SiteCard,
  SyncReply,
  SyncRequest,
  VmPresence,
} from '#/api/peer.ts';
import { closed } from '#/api/common.ts';
import { HandoverAnswer, HandoverRequest } from '#/api/handovers.ts';
import { MovedPlan } from '#/api/moved-plans.ts';
import { PointsLost } from '#/api/protections.ts';
import { PlanName } from '#/api/plans.ts';
import { Failure } from '#/lib/failure.ts';
import { ownVersion } from '#/lib/version.ts';
import { movedPlan } from '#/manager/moved-plan.ts';
import { changeReplica, pointsLost } from '#/manager/replica-changes.ts';
import { takeVmFacts } from '#/manager/vm-facts.ts';
import { peerMemory } from '#/manager/rebuild/peer-memory.ts';
import { putPeerDocument } from '#/manager/store/peer-document-store.ts';
import { route, type Caller, type Route } from './route.ts';

const tag = 'peer';
const roles = ['peer-manager'] as const;
const SYNC_BYTES_MAX = 4 * 1024 * 1024;
const Nothing = Type.Object({}, closed);

export const PEER_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/peer/v1/pair',
    roles: ['anonymous'],
    tag,
    summary: 'Pair with this site by a pairing token',
    body: PairRequest,
    reply: SiteCard,
    handle: ({ body, remoteAddress }, { peers }) => peers.acceptPairing(body.token, body.site, remoteAddress),
  }),
  route({
    method: 'GET',
    path: '/peer/v1/version',
    roles,
    tag,
    summary: "The version of this site's manager",
    reply: PeerVersion,
    handle: async () => ({ version: ownVersion() }),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/replicas/check',
    roles,
    tag,
    summary: 'Whether this site would take a replica; changes nothing',
    body: ReplicaRequest,
    reply: Nothing,
    handle: ({ body, caller }, { replicas }) => replicas.check(siteOf(caller), body),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/replicas',
    roles,
    tag,
    summary: 'Keep a replica; asking again answers the same',
    body: ReplicaRequest,
    reply: ReplicaGrant,
    handle: ({ body, caller }, { replicas }) => replicas.accept(siteOf(caller), body),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/replicas/release',
    roles,
    tag,
    summary: 'The protection is gone: keep the replica as it is, or delete it',
    body: ReplicaRemoval,
    reply: Nothing,
    handle: ({ body, caller }, { replicas }) =>
      replicas.release(siteOf(caller), body.protection_id, body.delete_replica),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/replicas/change',
    roles,
    tag,
    summary: 'A protection is changed: keep its replica so; asking again answers the same',
    body: ReplicaChange,
    reply: ReplicaChanged,
    handle: ({ body, caller }, { context }) => changeReplica(context, siteOf(caller), body),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/replicas/points-lost',
    roles,
    tag,
    summary: 'Which points another retention does not want; changes nothing',
    body: RetentionQuestion,
    reply: PointsLost,
    handle: ({ body, caller }, { context }) => pointsLost(context, siteOf(caller), body),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/sync',
    roles,
    tag,
    summary: 'How the protections of the calling site stand here',
    body: SyncRequest,
    reply: SyncReply,
    bodyBytesMax: SYNC_BYTES_MAX,
    handle: async ({ body, caller }, { context, replicas }) => {
      await takeVmFacts(context, siteOf(caller), body.vms ?? []);
      return {
        site_name: context.config.siteName,
        protections: await replicas.states(siteOf(caller), body.protection_ids),
      };
    },
  }),
  route({
    method: 'POST',
    path: '/peer/v1/claims',
    roles,
    tag,
    summary: 'The calling site says which VMs it runs, with a higher epoch: copies here yield',
    body: ClaimsTold,
    reply: ClaimAnswers,
    bodyBytesMax: SYNC_BYTES_MAX,
    handle: async ({ body, caller, signal }, { claims }) => ({
      answers: await claims.hear(siteOf(caller), body, signal),
    }),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/inventory/check',
    roles,
    tag,
    summary: 'Whether this site has networks, hosts or directories of these names',
    body: InventoryQuestion,
    reply: InventoryAnswer,
    bodyBytesMax: SYNC_BYTES_MAX,
    handle: async ({ body }, { mappings }) => ({ are_known: mappings.known(body) }),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/mappings',
    roles,
    tag,
    summary: 'The reverse of a mapping that the calling site makes; asking again changes nothing',
    body: ReverseMapping,
    reply: Nothing,
    handle: ({ body, caller }, { mappings }) => mappings.accept(siteOf(caller), body),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/handovers',
    roles,
    tag,
    summary:
      'Shut a VM down that is protected to the calling site, replicate its last state, or take that back',
    body: HandoverRequest,
    reply: HandoverAnswer,
    handle: ({ body, caller, signal }, { handovers }) => handovers.ask(siteOf(caller), body, signal),
  }),
  route({
    method: 'GET',
    path: '/peer/v1/vms/:uuid',
    roles,
    tag,
    summary: 'How a VM stands at this site, which is protected to the calling one',
    params: Type.Object({ uuid: Type.String({ maxLength: 36 }) }, closed),
    reply: VmPresence,
    handle: async ({ caller, params }, { claims, context }) => {
      // Another site learns of no VM but those that it has, or had, a copy of.
      const isRelated = await claims.isRelated(params.uuid, siteOf(caller));
      const host = isRelated ? context.inventory.hostOf(params.uuid) : undefined;
      const vm = host?.report?.vms.find((known) => known.uuid === params.uuid);
      if (host === undefined || vm === undefined) {
        throw new Failure('not_found', `site ${context.config.siteName} has no such VM`);
      }
      const fence = host.report?.fences?.find((known) => known.vm_uuid === vm.uuid);
      return {
        state: vm.state,
        is_fresh: context.inventory.isFresh(host),
        host_name: host.name,
        ...(fence?.state === 'yielded' ? { has_yielded: true } : {}),
      };
    },
  }),
  route({
    method: 'GET',
    path: '/peer/v1/plans/:name/moved',
    roles,
    tag,
    summary: 'A plan as it was run here last, with the VMs of the calling site that run here since',
    params: Type.Object({ name: PlanName }, closed),
    reply: MovedPlan,
    handle: ({ caller, params }, { claims, context }) =>
      movedPlan(context, claims, { siteId: siteOf(caller), plan: params.name }),
  }),
  route({
    method: 'GET',
    path: '/peer/v1/memory',
    roles,
    tag,
    summary: 'What this site knows of the calling one, which has lost its database',
    reply: PeerMemory,
    handle: ({ caller }, { context }) => peerMemory(context, siteOf(caller)),
  }),
  route({
    method: 'POST',
    path: '/peer/v1/documents',
    roles,
    tag,
    summary: "Keep a copy of the calling site's plans, groups and mappings; the newest one alone is kept",
    body: DocumentTold,
    reply: Nothing,
    bodyBytesMax: 2 * DOCUMENT_CHARACTERS_MAX,
    handle: async ({ body, caller }, { context }) => {
      const row = { site_id: siteOf(caller), ...body, received_ms: context.clock.now() };
      await putPeerDocument(context.db, row);
    },
  }),
];

function siteOf(caller: Caller): string {
  if (caller.role === 'peer-manager') return caller.siteId;
  throw new Failure('forbidden', `${caller.role} is no manager of a paired site`);
}

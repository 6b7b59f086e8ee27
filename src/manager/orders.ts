/**
 * The orders of each member: computed from the database as a whole each time, so that they are right after any crash,
 * and numbered by their content, so that a program is only bothered when they changed.
 */
import { createHash } from 'node:crypto';
import {
  CLAIMS_MAX,
  type AgentOrders,
  type AgentTask,
  type ClaimOrder,
  type ProtectionOrder,
  type ReplicaOrder,
  type ServerOrders,
  type ServerTask,
  type TrustedSite,
} from '#/control/orders.ts';
import type { MemberKind } from '#/control/join.ts';
import type { Context } from './context.ts';
import { POLL_MS } from './limits.ts';
import { isRebuilding } from './rebuild/rebuild-state.ts';
import { claimOf, listClaims } from './store/claim-store.ts';
import { orderRevision } from './store/member-store.ts';
import { listPeers } from './store/peer-store.ts';
import { listProtections, type Protection } from './store/protection-store.ts';
import { listReplicas } from './store/replica-store.ts';
import { orderedTasks } from './store/task-store.ts';

export class Orders {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Orders of another revision than `after`, as soon as there are any; undefined when 25 s brought none. */
  async poll(
    member: { kind: MemberKind; id: string },
    after: number | undefined,
    signal: AbortSignal,
  ): Promise<AgentOrders | ServerOrders | undefined> {
    const { changes, clock } = this.#context;
    const endMs = clock.monotonicMs() + POLL_MS;
    for (;;) {
      let isChanged = false;
      const stop = changes.listen('orders', () => (isChanged = true));
      try {
        // What a program goes on by must not be replaced by what an empty database says.
        if (!(await isRebuilding(this.#context.db))) {
          const orders = await this.current(member);
          if (orders.revision !== after) return orders;
        }
      } finally {
        stop();
      }
      const leftMs = endMs - clock.monotonicMs();
      if (leftMs <= 0 || signal.aborted) return undefined;
      if (!isChanged) await changes.next(['orders'], leftMs, signal);
    }
  }

  async current(member: { kind: MemberKind; id: string }): Promise<AgentOrders | ServerOrders> {
    const { db } = this.#context;
    const content =
      member.kind === 'agent' ? await this.#forAgent(member.id) : await this.#forServer(member.id);
    const sha256 = createHash('sha256').update(JSON.stringify(content)).digest('hex');
    return { revision: await orderRevision(db, member.id, sha256), ...content };
  }

  async trust(): Promise<TrustedSite[]> {
    const { authority, config, db, identity } = this.#context;
    const peers = await listPeers(db);
    return [
      { site_id: identity.siteId, site_name: config.siteName, ca_pem: authority.caPem },
      ...peers.map(({ site_id, site_name, ca_pem, host, port }) => ({
        site_id,
        site_name,
        ca_pem,
        manager: { host, port },
      })),
    ];
  }

  async #forAgent(id: string): Promise<Omit<AgentOrders, 'revision'>> {
    const { db, identity, inventory } = this.#context;
    const protections = (await listProtections(db)).filter(
      (protection) => (inventory.hostOf(protection.vm_uuid)?.id ?? protection.host_id) === id,
    );
    const ordered = protections.flatMap(protectionOrder);
    return {
      site_id: identity.siteId,
      trust: await this.trust(),
      protections: ordered,
      claims: await this.#claims(id, new Set(ordered.map((order) => order.vm_uuid))),
      ...keptRecords(protections),
      tasks: (await orderedTasks(db, id)).map((task) => task.body as AgentTask),
    };
  }

  /** Every host knows every claim: a VM may be moved to any of them. */
  async #claims(hostId: string, protectedHere: ReadonlySet<string>): Promise<ClaimOrder[]> {
    const { db, identity } = this.#context;
    return (await listClaims(db))
      .filter((record) => record.is_withdrawn === 0)
      .slice(0, CLAIMS_MAX)
      .map((record) => ({
        claim: claimOf(record),
        vm_name: record.vm_name,
        is_here:
          record.site_id === identity.siteId &&
          (record.host_id === hostId || protectedHere.has(record.vm_uuid)),
      }));
  }

  async #forServer(id: string): Promise<Omit<ServerOrders, 'revision'>> {
    const { db, identity } = this.#context;
    const replicas = (await listReplicas(db)).filter(
      (replica) => replica.server_id === id && replica.state !== 'deleting',
    );
    return {
      site_id: identity.siteId,
      trust: await this.trust(),
      replicas: replicas.map((replica): ReplicaOrder => ({
        replica_id: replica.id,
        vm_uuid: replica.vm_uuid,
        vm_name: replica.vm_name,
        source_site_id: replica.source_site_id,
        ...(replica.state === 'seeding' ? { writer_site_id: identity.siteId } : {}),
        epoch: replica.epoch,
        retention: replica.retention,
        ...(replica.bookmarks.length === 0 ? {} : { bookmarks: replica.bookmarks }),
        kept: {
          protection_id: replica.protection_id,
          rpo_ms: replica.rpo_ms,
          state: replica.state === 'active' || replica.state === 'recovered' ? replica.state : 'kept',
          disks: replica.disks,
          created_ms: replica.created_ms,
        },
      })),
      tasks: (await orderedTasks(db, id)).map((task) => task.body as ServerTask),
    };
  }
}

/** A copy that is replicated no more may still be compared with what the other site had of it. */
function keptRecords(protections: readonly Protection[]): Pick<AgentOrders, 'kept_records'> {
  const kept = protections
    .filter(({ state }) => state === 'superseded')
    .flatMap(({ replica_id: id }) => (id === null ? [] : [id]));
  return kept.length === 0 ? {} : { kept_records: kept };
}

/** Only what both sites have agreed on is ordered. */
function protectionOrder(protection: Protection): ProtectionOrder[] {
  if (protection.state !== 'active' || protection.replica_id === null || protection.server === null)
    return [];
  return [
    {
      replica_id: protection.replica_id,
      vm_uuid: protection.vm_uuid,
      vm_name: protection.vm_name,
      disks: protection.disks,
      rpo_ms: protection.rpo_ms,
      epoch: protection.epoch,
      added_disks: protection.added_disks,
      scratch_bytes: protection.scratch_bytes,
      server: protection.server,
      kept: {
        protection_id: protection.id,
        retention: protection.retention,
        created_ms: protection.created_ms,
      },
    },
  ];
}

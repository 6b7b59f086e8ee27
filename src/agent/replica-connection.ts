/** The `ReplicaLink` of one protection: a session with the replication server of its orders, over TLS. */
import type { ProtectionOrder } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import type { ReplicaLink, ReplicaSession } from '#/replication/link.ts';
import type { DiskSpec } from '#/wire/messages.ts';
import type { SessionPool } from '#/wire/session-pool.ts';
import { connect } from '#/wire/tls-client.ts';

/** Who this program is and whom it trusts, as it stands when a session is opened. */
export type LinkIdentity = {
  credentials: { certificatePem: string; privateKeyPem: string };
  /** Authority of each trusted site, by the site's id. */
  authorities: ReadonlyMap<string, string>;
};

/** What of an order a session is opened by. */
export type ReplicaPlace = Pick<ProtectionOrder, 'replica_id' | 'vm_uuid' | 'vm_name' | 'epoch' | 'server'>;

export class ReplicaConnection implements ReplicaLink {
  readonly #order: () => ReplicaPlace;
  readonly #identity: () => LinkIdentity;
  readonly #pool: SessionPool;
  readonly #digestKey: string | undefined;

  /** `digestKey` is what a replica that is made by a session is to key its digests by, a secret. */
  constructor(parts: {
    order: () => ReplicaPlace;
    identity: () => LinkIdentity;
    pool: SessionPool;
    digestKey?: string | undefined;
  }) {
    this.#digestKey = parts.digestKey;
    this.#order = parts.order;
    this.#identity = parts.identity;
    this.#pool = parts.pool;
  }

  async open(disks: DiskSpec[], signal: AbortSignal): Promise<ReplicaSession> {
    const { replica_id: replicaId, vm_uuid: uuid, vm_name: name, epoch, server } = this.#order();
    const { credentials, authorities } = this.#identity();
    const authorityPem = authorities.get(server.site_id);
    if (authorityPem === undefined) {
      throw new Failure(
        'certificate_invalid',
        `connect to site ${server.site_id}: no authority of it is known`,
        {
          hint: 'Pair the two sites again.',
        },
      );
    }
    const { host, port } = server;
    const peer = { siteId: server.site_id, role: 'replication-server', id: server.server_id } as const;
    const place = {
      key: `${peer.siteId} ${peer.id} ${host}:${port}\n${authorityPem}\n${credentials.certificatePem}`,
      connect: () => connect({ host, port, peer, authorityPem, credentials, signal }),
    };
    const key = this.#digestKey === undefined ? {} : { digestKey: this.#digestKey };
    const open = { replicaId, vm: { uuid, name }, epoch, disks, ...key };
    return await this.#pool.open(place, open, signal);
  }
}

/** The `ReplicaLink` of one protection: TLS to the replication server of its orders, and a session over it. */
import type { ProtectionOrder } from '#/control/orders.ts';
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import type { ReplicaLink, ReplicaSession } from '#/replication/link.ts';
import { openSession } from '#/wire/client-session.ts';
import type { DiskSpec } from '#/wire/messages.ts';
import { connect } from '#/wire/tls-client.ts';

/** Who this program is and whom it trusts, as it stands when a session is opened. */
export type LinkIdentity = {
  credentials: { certificatePem: string; privateKeyPem: string };
  /** Authority of each trusted site, by the site's id. */
  authorities: ReadonlyMap<string, string>;
};

export class ReplicaConnection implements ReplicaLink {
  readonly #order: () => ProtectionOrder;
  readonly #identity: () => LinkIdentity;
  readonly #clock: Clock;

  constructor(parts: { order: () => ProtectionOrder; identity: () => LinkIdentity; clock: Clock }) {
    this.#order = parts.order;
    this.#identity = parts.identity;
    this.#clock = parts.clock;
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
    const transport = await connect({
      host: server.host,
      port: server.port,
      peer: { siteId: server.site_id, role: 'replication-server', id: server.server_id },
      authorityPem,
      credentials,
      signal,
    });
    const open = { replicaId, vm: { uuid, name }, epoch, disks };
    return await openSession(transport, open, { clock: this.#clock, signal });
  }
}

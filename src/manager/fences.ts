/** Fences as people see and undo them: which VMs run elsewhere, and letting a copy of this site run again. */
import type { FenceView, ReleaseRequest } from '#/api/fences.ts';
import { VmPresence } from '#/api/peer.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import type { AgentMember } from './inventory.ts';
import type { Peers } from './peers.ts';
import type { ClaimRecord } from './store/claim-store.ts';

const PRESENCE_TIMEOUT_MS = 2000;
const NOT_TOLD = { yielded_ms: null, failure: null };
const UP = ['running', 'paused', 'blocked'];

export class Fences {
  readonly #context: Context;
  readonly #peers: Peers;
  readonly #claims: Claims;

  constructor(context: Context, peers: Peers, claims: Claims) {
    this.#context = context;
    this.#peers = peers;
    this.#claims = claims;
  }

  async list(): Promise<FenceView[]> {
    const records = (await this.#claims.list()).filter((record) => record.is_withdrawn === 0);
    const views = await Promise.all(records.map((record) => this.view(record)));
    return views.toSorted((a, b) => a.vm_name.localeCompare(b.vm_name));
  }

  async view(record: ClaimRecord): Promise<FenceView> {
    const { identity, inventory } = this.#context;
    return {
      vm_uuid: record.vm_uuid,
      vm_name: record.vm_name,
      epoch: record.epoch,
      site_id: record.site_id,
      site_name: await this.#siteName(record.site_id),
      is_here: record.site_id === identity.siteId,
      claimed_ms: record.issued_ms,
      copies: inventory.agents().flatMap((agent) => this.#copies(agent, record)),
    };
  }

  #copies(agent: AgentMember, record: ClaimRecord): FenceView['copies'] {
    const { inventory } = this.#context;
    const vm = agent.report?.vms.find((known) => known.uuid === record.vm_uuid);
    const fence = agent.report?.fences?.find((known) => known.vm_uuid === record.vm_uuid);
    const isOwn = record.site_id === this.#context.identity.siteId;
    if (vm === undefined || (fence === undefined && isOwn)) return [];
    // The inventory may be of a moment before.
    const yielded = fence?.state === 'yielded' && fence.epoch >= record.epoch ? fence : undefined;
    const held = yielded === undefined ? 'failing' : 'yielded';
    return [
      {
        host_id: agent.id,
        host_name: agent.name,
        state: inventory.isFresh(agent) ? held : 'unknown',
        vm_state: (yielded ?? { vm_state: vm.state }).vm_state,
        ...(fence === undefined ? NOT_TOLD : { yielded_ms: fence.yielded_ms, failure: fence.failure }),
      },
    ];
  }

  /**
   * Lets the copy of this site run again, with a higher epoch than any: the copy of the other site yields in turn.
   * Of a VM that this site runs already, the copy it has gets its mark again. Never done unasked.
   */
  async release(vm: string, request: ReleaseRequest): Promise<FenceView> {
    const { events, db, identity, inventory } = this.#context;
    const record = await this.#find(vm);
    const host = inventory.hostOf(record.vm_uuid);
    if (host === undefined) {
      throw new Failure('not_found', `no host of this site has a copy of VM ${record.vm_name}`, {
        hint: 'List the VMs of this site with: antipode vms',
      });
    }
    const isOwn = record.site_id === identity.siteId;
    if (!isOwn && request.force !== true) await this.#checkOther(record);
    await this.#claims.claim(record, { epoch: record.epoch, raise: true, hostId: host.id });
    const now = (await this.#claims.find(record.vm_uuid)) ?? record;
    await events.record(db, {
      kind: 'fence.released',
      severity: 'warning',
      subject: { kind: 'vm', id: record.vm_uuid },
      message: isOwn
        ? `the copy of VM ${record.vm_name} on host ${host.name} is the one that runs, with epoch ${now.epoch}`
        : `VM ${record.vm_name} may run here again, on host ${host.name}, with epoch ${now.epoch}; ` +
          `its copy at site ${await this.#siteName(record.site_id)} yields`,
    });
    return this.view(now);
  }

  async #find(vm: string): Promise<ClaimRecord> {
    const records = (await this.#claims.list()).filter(
      (record) => record.is_withdrawn === 0 && [record.vm_uuid, record.vm_name].includes(vm),
    );
    if (records.length === 1) return records[0]!;
    if (records.length === 0) {
      throw new Failure('not_found', `no epoch of a VM "${vm}" is known here`, {
        hint: 'List them with: antipode fence. VMs that were never protected are not fenced.',
      });
    }
    throw new Failure('conflict', `several VMs are named "${vm}"`, {
      hint: `Name the one you mean by its UUID: ${records.map((record) => record.vm_uuid).join(', ')}`,
    });
  }

  /** Throws conflict when the copy of the other site runs, unreachable when that cannot be known. */
  async #checkOther(record: ClaimRecord): Promise<void> {
    const name = record.vm_name;
    const peer = (await this.#peers.list()).find((known) => known.site_id === record.site_id);
    const force = `To run this copy all the same and leave the other behind: antipode fence release ${name} --force`;
    if (peer === undefined) {
      throw new Failure(
        'unreachable',
        `site ${record.site_id}, which runs VM ${name}, is not paired any more`,
        {
          hint: force,
        },
      );
    }
    let presence: VmPresence | undefined;
    try {
      const path = `/peer/v1/vms/${record.vm_uuid}`;
      const options = { method: 'GET', path, timeoutMs: PRESENCE_TIMEOUT_MS } as const;
      presence = await this.#peers.call(peer, options, VmPresence);
    } catch (error) {
      const failure = failureIn(error);
      if (failure?.code === 'not_found') return;
      if (failure === undefined) throw error;
      throw new Failure('unreachable', `whether VM ${name} runs at site ${peer.site_name} is not known`, {
        cause: error,
        hint: `Wait until that site answers. ${force}`,
      });
    }
    if (!UP.includes(presence.state)) return;
    throw new Failure(
      'conflict',
      `VM ${name} is ${presence.state} at site ${peer.site_name}, on host ${presence.host_name}`,
      { hint: `Shut it down there first. ${force}; it is paused there then.` },
    );
  }

  async #siteName(siteId: string): Promise<string> {
    const { config, identity } = this.#context;
    if (siteId === identity.siteId) return config.siteName;
    return (await this.#peers.list()).find((peer) => peer.site_id === siteId)?.site_name ?? siteId;
  }
}

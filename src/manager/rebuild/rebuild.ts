/**
 * Rebuilds the database of this site when it was lost (docs/operate/rebuild.md): an administrator says whom to let in
 * again; programs tell the orders that they keep, paired sites what they know; then everything is recorded at once.
 *
 * Invariants: nobody is let in unasked. Until the one transaction at the end, no program has new orders, so what they
 * keep is still there when this manager is killed anywhere on the way; every call may be repeated.
 */
import { X509Certificate } from 'node:crypto';
import { PeerMemory } from '#/api/peer.ts';
import type { RebuildRequest, RebuildView } from '#/api/rebuild.ts';
import type { MemberKind } from '#/control/join.ts';
import type { KeptByAgent, KeptByServer } from '#/control/kept-orders.ts';
import type { TrustedSite } from '#/control/orders.ts';
import { verifyClaim, type EpochClaim } from '#/lib/epoch-claim.ts';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import { Mutex } from '#/lib/mutex.ts';
import type { Context } from '#/manager/context.ts';
import { MEMBERS_MAX } from '#/manager/limits.ts';
import type { Peers } from '#/manager/peers.ts';
import { addMember, findMember, listMembers } from '#/manager/store/member-store.ts';
import { listPeers, putPeer, type PeerRow } from '#/manager/store/peer-store.ts';
import { listReplicas } from '#/manager/store/replica-store.ts';
import { leftOvers } from './left-over.ts';
import { merge } from './merge.ts';
import { readRebuild, writeRebuild } from './rebuild-state.ts';
import { record, type Recorded } from './record.ts';
import { Strangers } from './strangers.ts';

/** Whether somebody of one of these names is not to be let in, or not to be waited for. */
type IsLeftOut = (...names: string[]) => boolean;

export class Rebuild {
  readonly #context: Context;
  readonly #peers: Peers;
  readonly #strangers = new Strangers();
  readonly #agents = new Map<string, KeptByAgent>();
  readonly #servers = new Map<string, KeptByServer>();
  readonly #memories = new Map<string, PeerMemory>();
  readonly #failures = new Map<string, string>();
  readonly #turn = new Mutex();
  #result: RebuildView['result'] = null;

  constructor(context: Context, peers: Peers) {
    this.#context = context;
    this.#peers = peers;
  }

  /** A program of this site that the inventory does not have. Removed ones are known, and stay out. */
  async turnedAway(
    program: { kind: MemberKind; id: string },
    certificate: X509Certificate,
    address: string,
  ): Promise<void> {
    const { clock, db } = this.#context;
    if ((await findMember(db, program.id)) !== undefined) return;
    const certificateExpiresMs = certificate.validToDate.getTime();
    this.#strangers.seen({ ...program, certificateExpiresMs, seenMs: clock.now(), address });
  }

  /** Whether the member is to tell what it keeps, with its next word. */
  async isWanted(id: string): Promise<boolean> {
    if (this.#agents.has(id) || this.#servers.has(id)) return false;
    const { members, state } = await readRebuild(this.#context.db);
    return state === 'open' && members.includes(id);
  }

  agentTold(id: string, kept: KeptByAgent): void {
    if (this.#context.inventory.agent(id) !== undefined) this.#agents.set(id, kept);
  }

  serverTold(id: string, kept: KeptByServer): void {
    if (this.#context.inventory.server(id) !== undefined) this.#servers.set(id, kept);
  }

  /** Goes on as far as it can; repeated until the state is `none`. */
  async apply({ without = [] }: RebuildRequest): Promise<RebuildView> {
    return this.#turn.run(async () => {
      const isLeftOut: IsLeftOut = (...names) => names.some((name) => without.includes(name));
      await this.#letIn(isLeftOut);
      await this.#trustPeers(isLeftOut);
      await this.#askPeers(isLeftOut);
      const missing = await this.#missing(isLeftOut);
      if (missing.length === 0) await this.#finish(isLeftOut);
      return this.#view(isLeftOut);
    });
  }

  /** The site starts afresh: its programs have to join again, its pairings to be made again. */
  async abandon(): Promise<RebuildView> {
    const { changes, db, events } = this.#context;
    return this.#turn.run(async () => {
      const { isRestored, state } = await readRebuild(db);
      if (isRestored === true) {
        throw new Failure('conflict', 'a restored database is not empty: what it says has to be compared', {
          hint: 'antipode rebuild --apply, with --without NAME for whoever is gone for good.',
        });
      }
      if (state !== 'waiting') {
        const why =
          state === 'none' ? 'this site waits for no rebuild' : 'programs were let in again already';
        throw new Failure('conflict', why, { hint: 'See how it stands with: antipode rebuild' });
      }
      await db.transaction().execute(async (at) => {
        await writeRebuild(at, { state: 'none', members: [] });
        await events.record(at, {
          kind: 'site.started_empty',
          severity: 'warning',
          subject: { kind: 'site', id: this.#context.identity.siteId },
          message: 'the lost database is not rebuilt: the site starts with an empty one',
        });
      });
      changes.notify('orders');
      return this.#view(() => false);
    });
  }

  view(): Promise<RebuildView> {
    return this.#view(() => false);
  }

  async #letIn(isLeftOut: IsLeftOut): Promise<void> {
    const { clock, db, events, inventory } = this.#context;
    const strangers = this.#strangers.list().filter(({ id }) => !isLeftOut(id));
    const before = await readRebuild(db);
    const known = before.isRestored === true ? this.#everybody() : await this.#keepers();
    const keepers = known.filter((id) => !isLeftOut(id));
    if (strangers.length === 0 && keepers.length === 0 && before.state === 'none') {
      throw new Failure('conflict', 'no program of this site asks to be let in again', {
        hint: 'Programs ask every few seconds. New ones join with a token from: antipode join-token',
      });
    }
    const rows = strangers.map((stranger) => ({
      id: stranger.id,
      kind: stranger.kind,
      // Until its first report.
      name: stranger.id,
      joined_ms: clock.now(),
      certificate_expires_ms: stranger.certificateExpiresMs,
    }));
    if ((await listMembers(db)).length + rows.length > MEMBERS_MAX) {
      throw new Failure('limit_exceeded', `this site would have more than ${MEMBERS_MAX} programs`);
    }
    await db.transaction().execute(async (at) => {
      const members = [...new Set([...before.members, ...keepers, ...rows.map(({ id }) => id)])];
      await writeRebuild(at, { ...before, state: 'open', members });
      for (const row of rows) {
        await addMember(at, row);
        await events.record(at, {
          kind: 'member.let_in_again',
          severity: 'warning',
          subject: { kind: row.kind, id: row.id },
          message: `${row.kind} ${row.id}, which the database did not know, was let in again`,
        });
      }
    });
    for (const row of rows) {
      inventory.add({ ...row, removed_ms: null, report: null, report_ms: null });
      this.#strangers.forget(row.id);
    }
  }

  /** Of a restored database: all that it knows have done something since. */
  #everybody(): string[] {
    const { inventory } = this.#context;
    return [...inventory.agents(), ...inventory.servers()].map(({ id }) => id);
  }

  /** Replication servers of this site that show replicas which the database does not know. */
  async #keepers(): Promise<string[]> {
    const known = new Set((await listReplicas(this.#context.db)).map(({ id }) => id));
    return this.#context.inventory
      .servers()
      .filter(({ report }) => report?.replicas.some(({ replica_id: id }) => !known.has(id)) === true)
      .map(({ id }) => id);
  }

  /** Sites that the members trust, and this database does not know. */
  #told(): Map<string, TrustedSite[]> {
    const bySite = new Map<string, TrustedSite[]>();
    for (const { orders } of [...this.#agents.values(), ...this.#servers.values()]) {
      for (const site of orders?.trust ?? []) {
        if (site.site_id === this.#context.identity.siteId) continue;
        bySite.set(site.site_id, [...(bySite.get(site.site_id) ?? []), site]);
      }
    }
    return bySite;
  }

  async #trustPeers(isLeftOut: IsLeftOut): Promise<void> {
    const { clock, db } = this.#context;
    const known = new Set((await listPeers(db)).map((peer) => peer.site_id));
    for (const [siteId, words] of this.#told()) {
      const { site_name: name, ca_pem: caPem } = words[0]!;
      // Also one that is not waited for stays paired: its claims and its later word need its authority.
      if (
        known.has(siteId) ||
        (isLeftOut(siteId, name) && words.every(({ manager }) => manager === undefined))
      ) {
        continue;
      }
      if (words.some((word) => word.ca_pem !== caPem)) {
        this.#failures.set(siteId, 'programs name different authorities of it: pair with it anew');
        continue;
      }
      const at = words.find(({ manager }) => manager !== undefined)?.manager;
      if (at === undefined) {
        this.#failures.set(siteId, 'no program knows its address: pair with it anew');
        continue;
      }
      const row = { site_id: siteId, site_name: name, ca_pem: caPem, ...at, paired_ms: clock.now() };
      await putPeer(db, row);
      this.#failures.delete(siteId);
    }
  }

  async #askPeers(isLeftOut: IsLeftOut): Promise<void> {
    const peers = (await listPeers(this.#context.db)).filter(
      (peer) => !isLeftOut(peer.site_id, peer.site_name) && !this.#memories.has(peer.site_id),
    );
    await Promise.all(peers.map((peer) => this.#ask(peer)));
  }

  async #ask(peer: PeerRow): Promise<void> {
    try {
      const options = { method: 'GET', path: '/peer/v1/memory' } as const;
      this.#memories.set(peer.site_id, await this.#peers.call(peer, options, PeerMemory));
      this.#failures.delete(peer.site_id);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      this.#failures.set(peer.site_id, describe(error).slice(0, 4096));
    }
  }

  async #missing(isLeftOut: IsLeftOut): Promise<string[]> {
    const { members, state } = await readRebuild(this.#context.db);
    if (state === 'none') return [];
    if (members.length === 0) return ['no program of this site has asked to be let in again yet'];
    return [...this.#missingMembers(members, isLeftOut), ...(await this.#missingPeers(isLeftOut))];
  }

  #missingMembers(ids: readonly string[], isLeftOut: IsLeftOut): string[] {
    const { inventory } = this.#context;
    return ids.flatMap((id) => {
      const member = inventory.agent(id) ?? inventory.server(id);
      if (member === undefined || isLeftOut(id, member.name)) return [];
      const hasTold = this.#agents.has(id) || this.#servers.has(id);
      return hasTold && inventory.isFresh(member) ? [] : [`${id} has not told what it keeps`];
    });
  }

  async #missingPeers(isLeftOut: IsLeftOut): Promise<string[]> {
    const paired = await listPeers(this.#context.db);
    const unpaired = [...this.#told().values()].flatMap(([word]) =>
      word === undefined || paired.some((peer) => peer.site_id === word.site_id) ? [] : [word],
    );
    return [...paired, ...unpaired]
      .filter(({ site_id: id, site_name: name }) => !this.#memories.has(id) && !isLeftOut(id, name))
      .map(({ site_id: id, site_name: name }) => {
        return `site ${name}: ${this.#failures.get(id) ?? 'has not answered yet'}`;
      });
  }

  async #finish(isLeftOut: IsLeftOut): Promise<void> {
    const { changes, clock, config, db, identity, inventory, log } = this.#context;
    const authorities = await this.#authorities();
    const isSigned = (claim: EpochClaim): boolean => {
      try {
        verifyClaim(claim, authorities);
        return true;
      } catch (error) {
        if (failureIn(error) === undefined) throw error;
        return false;
      }
    };
    const merged = merge({
      siteId: identity.siteId,
      nowMs: clock.now(),
      agents: [...this.#agents].map(([id, kept]) => {
        const vms = inventory.agent(id)?.report?.vms ?? [];
        return { id, kept, vmUuids: vms.map(({ uuid }) => uuid) };
      }),
      servers: [...this.#servers].map(([id, kept]) => {
        return { id, kept, replicas: inventory.server(id)?.report?.replicas ?? [] };
      }),
      peers: [...this.#memories].map(([siteId, memory]) => ({ siteId, memory })),
      isSigned,
    });
    const leftOut = (await listPeers(db)).filter((peer) => isLeftOut(peer.site_id, peer.site_name));
    const notes = [
      ...merged.notes,
      ...leftOut.map((peer) => `site ${peer.site_name} was not asked: what only it knows is not here`),
    ];
    const documents = [...this.#memories.values()].flatMap(({ document }) =>
      document === null ? [] : [document],
    );
    const left = [...this.#agents].flatMap(([id, kept]) => {
      const host = inventory.agent(id);
      const report = host?.report;
      return leftOvers({ name: report?.host.hostname ?? id, kept, report }, merged.replicas);
    });
    notes.push(...left.map(({ hint, message }) => `${message}. ${hint}`));
    const told = { servers: new Set(this.#servers.keys()), sites: new Set(this.#memories.keys()) };
    const counts: Recorded = await record(this.#context, { ...merged, notes, documents, left, told });
    this.#result = { ended_ms: clock.now(), ...counts, notes };
    for (const told of [this.#agents, this.#servers, this.#memories, this.#failures]) told.clear();
    log.warning('rebuild.done', { site: config.siteName, ...counts, notes: notes.join('; ') });
    changes.notify('orders');
  }

  async #authorities() {
    const { authority, db, identity } = this.#context;
    const own = { site_id: identity.siteId, ca_pem: authority.caPem };
    return [own, ...(await listPeers(db))].map(({ site_id: siteId, ca_pem: pem }) => ({
      siteId,
      certificate: new X509Certificate(pem),
    }));
  }

  async #view(isLeftOut: IsLeftOut): Promise<RebuildView> {
    const { db, inventory } = this.#context;
    const { members, state } = await readRebuild(db);
    return {
      state,
      strangers: this.#strangers.list().map(({ id, kind, address, seenMs }) => {
        return { id, kind, address, seen_ms: seenMs };
      }),
      members: members.flatMap((id) => {
        const agent = inventory.agent(id);
        const member = agent ?? inventory.server(id);
        if (member === undefined) return [];
        const kind = agent === undefined ? ('replication-server' as const) : ('agent' as const);
        const name = member.name;
        return [{ id, kind, name, has_told: this.#agents.has(id) || this.#servers.has(id) }];
      }),
      peers: state === 'none' ? [] : await this.#peerViews(),
      missing: (await this.#missing(isLeftOut)).map((text) => text.slice(0, 4096)),
      result: this.#result,
    };
  }

  async #peerViews(): Promise<RebuildView['peers']> {
    return (await listPeers(this.#context.db)).map((peer) => ({
      site_id: peer.site_id,
      site_name: peer.site_name,
      address: `${peer.host}:${peer.port}`,
      authority_sha256: new X509Certificate(peer.ca_pem).fingerprint256,
      has_told: this.#memories.has(peer.site_id),
      failure: this.#failures.get(peer.site_id) ?? null,
    }));
  }
}

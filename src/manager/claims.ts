/**
 * Which site runs a VM (docs/fencing.md, section 1): raises epochs for this site, believes those of others, and tells
 * its own to the sites concerned until they have answered.
 *
 * Invariant: a claim is in the database before anybody acts by it, and the one there is never replaced by one that it
 * supersedes.
 */
import { X509Certificate } from 'node:crypto';
import { ClaimAnswers, type ClaimAnswer, type ClaimsTold } from '#/api/peer.ts';
import { supersedes, verifyClaim, type EpochClaim } from '#/lib/epoch-claim.ts';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import type { Context } from './context.ts';
import {
  CLAIMS_TELL_AGAIN_MS,
  CLAIMS_TELL_TIMEOUT_MS,
  CLAIMS_TOLD_AT_ONCE,
  YIELD_WAIT_MS,
} from './limits.ts';
import type { Peers } from './peers.ts';
import {
  claimOf,
  findClaim,
  listClaims,
  putClaim,
  updateClaim,
  type ClaimRecord,
} from './store/claim-store.ts';
import type { Database } from './store/database.ts';
import type { PeerRow } from './store/peer-store.ts';
import { listProtections, updateProtection } from './store/protection-store.ts';
import { listReplicas, updateReplica } from './store/replica-store.ts';
import { relatedSites } from './related-sites.ts';
import { waitForYield } from './yield-wait.ts';

/** A call must outlast the wait it asks for. */
const ANSWER_SLACK_MS = 2000;

/** Two sites that raise the epoch of one VM at the same time are people, not loops. */
const CLAIM_TRIES = 5;

type Vm = { vm_uuid: string; vm_name: string };
type Want = { epoch: number; raise: boolean; hostId?: string | null; relatedSiteId?: string };

export class Claims {
  readonly #context: Context;
  readonly #peers: Peers;
  /** What each site has answered for, by site: a VM's signature. Told again after a restart, which does no harm. */
  readonly #told = new Map<string, Map<string, string>>();
  #toldSinceMs = 0;

  constructor(context: Context, peers: Peers) {
    this.#context = context;
    this.#peers = peers;
  }

  list(): Promise<ClaimRecord[]> {
    return listClaims(this.#context.db);
  }

  /** The newest known claim of the VM; one that was withdrawn is none. */
  async find(vmUuid: string): Promise<ClaimRecord | undefined> {
    const found = await findClaim(this.#context.db, vmUuid);
    return found?.is_withdrawn === 1 ? undefined : found;
  }

  /** The highest epoch that was ever claimed for the VM, as far as is known here; 0 for none. */
  async highest(vmUuid: string): Promise<number> {
    return (await findClaim(this.#context.db, vmUuid))?.epoch ?? 0;
  }

  /**
   * This site runs the VM with an epoch of at least that. Asking again answers the same. `raise: true` asks for one
   * above that of any other site; without it the claim of another site that is as high stays, and is returned.
   */
  async claim(vm: Vm, want: Want): Promise<EpochClaim> {
    for (let tries = 0; tries < CLAIM_TRIES; tries++) {
      const claim = await this.#claimOnce(vm, want);
      if (claim !== undefined) return claim;
    }
    throw new Failure('conflict', `the epoch of VM ${vm.vm_name} is being raised by somebody else`);
  }

  /** Undefined when another claim came while this one was signed. */
  async #claimOnce(vm: Vm, want: Want): Promise<EpochClaim | undefined> {
    const { db, identity } = this.#context;
    const known = await findClaim(db, vm.vm_uuid);
    const isOwn = known?.site_id === identity.siteId && known.is_withdrawn === 0;
    const added = want.relatedSiteId === undefined ? [] : [want.relatedSiteId];
    const related = await this.#related(db, vm.vm_uuid, added);
    const isKept = isOwn || (known?.site_id !== identity.siteId && !want.raise);
    if (known !== undefined && known.epoch >= want.epoch && isKept) {
      const hostId = isOwn && want.hostId !== undefined ? want.hostId : known.host_id;
      await updateClaim(db, known, { host_id: hostId, related_site_ids: related });
      this.#context.changes.notify('orders');
      return claimOf(known);
    }
    const epoch = known === undefined ? want.epoch : Math.max(want.epoch, known.epoch + 1);
    return this.#sign(vm, { epoch, hostId: want.hostId ?? null, related, known });
  }

  async #sign(
    { vm_uuid, vm_name }: Vm,
    on: { epoch: number; hostId: string | null; related: string[]; known: ClaimRecord | undefined },
  ): Promise<EpochClaim | undefined> {
    const { authority, clock, db, identity } = this.#context;
    const { epoch, hostId, related, known } = on;
    const signed = { vm_uuid, epoch, site_id: identity.siteId, issued_ms: clock.now() };
    const claim = await authority.sign(signed);
    const isFirst = await db.transaction().execute(async (at) => {
      if ((await findClaim(at, vm_uuid))?.signature !== known?.signature) return false;
      const record = { ...claim, vm_uuid, vm_name, host_id: hostId, is_withdrawn: 0 };
      await putClaim(at, { ...record, related_site_ids: related });
      return true;
    });
    if (!isFirst) return undefined;
    this.#context.changes.notify('orders');
    return claim;
  }

  /** The recovery that raised the epoch was taken back: nobody is told of it from now on. False when it has none. */
  async withdraw(db: Database, vmUuid: string): Promise<boolean> {
    const known = await findClaim(db, vmUuid);
    if (known?.site_id !== this.#context.identity.siteId) return false;
    await updateClaim(db, known, { is_withdrawn: 1, host_id: null });
    return true;
  }

  /** Takes what another site tells, and waits for the copies of the first VM to yield when it is asked to. */
  async hear(siteId: string, told: ClaimsTold, signal: AbortSignal): Promise<ClaimAnswer[]> {
    const answers: ClaimAnswer[] = [];
    for (const { claim, vm_name: name } of told.claims) {
      try {
        await this.believe(siteId, claim, name);
        const waitMs = answers.length === 0 ? told.wait_ms : 0;
        answers.push(await waitForYield(this.#context, claim, { waitMs, signal }));
      } catch (error) {
        if (failureIn(error) === undefined) throw error;
        this.#context.log.warning('claim.refused', { site: siteId, vm: name, reason: describe(error) });
        answers.push({ vm_uuid: claim.vm_uuid, state: 'refused', message: describe(error).slice(0, 4096) });
      }
    }
    return answers;
  }

  /** Whether the other site has, or had, a replica of the VM, or its original. */
  async isRelated(vmUuid: string, siteId: string): Promise<boolean> {
    const { db } = this.#context;
    if ((await findClaim(db, vmUuid))?.related_site_ids.includes(siteId) === true) return true;
    return (await relatedSites(db, vmUuid)).has(siteId);
  }

  /** Throws what keeps a claim that a site tells from being believed; changes nothing. */
  async verify(fromSiteId: string, claim: EpochClaim): Promise<void> {
    if (!(await this.isRelated(claim.vm_uuid, fromSiteId))) {
      throw new Failure('forbidden', `site ${fromSiteId} keeps no replica of VM ${claim.vm_uuid}`);
    }
    verifyClaim(claim, await this.#authorities());
  }

  /** Takes a claim that a site tells, unless a newer one is known. */
  async believe(fromSiteId: string, claim: EpochClaim, vmName: string): Promise<void> {
    const { db, events } = this.#context;
    await this.verify(fromSiteId, claim);
    // Asked before the transaction, which has the only connection.
    const siteName = await this.#nameOf(claim.site_id);
    await db.transaction().execute(async (at) => {
      const known = await findClaim(at, claim.vm_uuid);
      if (known !== undefined && !supersedes(claim, known)) return;
      const vm = { vm_uuid: claim.vm_uuid, vm_name: known?.vm_name ?? vmName };
      const related = await this.#related(at, claim.vm_uuid, [fromSiteId, claim.site_id]);
      const record = { ...claim, ...vm, host_id: null, is_withdrawn: 0, related_site_ids: related };
      await putClaim(at, record);
      await this.#supersede(at, record, siteName);
      await events.record(at, {
        kind: 'fence.claimed',
        severity: 'warning',
        subject: { kind: 'vm', id: claim.vm_uuid },
        message:
          `site ${siteName} has run VM ${vm.vm_name} since ${new Date(claim.issued_ms).toISOString()} ` +
          `with epoch ${claim.epoch}: copies of this site yield`,
      });
    });
    this.#context.changes.notify('orders');
  }

  /** The VM's former copies: that of this site is replicated no more, and replicas of others' take no more. */
  async #supersede(
    at: Database,
    { epoch, vm_uuid: vmUuid, site_id: siteId }: ClaimRecord,
    siteName: string,
  ): Promise<void> {
    if (siteId === this.#context.identity.siteId) return;
    for (const replica of await listReplicas(at)) {
      const isOfThird = replica.source_site_id !== siteId && replica.state === 'active';
      if (replica.vm_uuid === vmUuid && isOfThird)
        await updateReplica(at, replica.id, { epoch, state: 'kept' });
    }
    for (const protection of await listProtections(at)) {
      if (protection.vm_uuid !== vmUuid) continue;
      const from = ['requested', 'seeding', 'active'] as const;
      if (!(await updateProtection(at, { id: protection.id, from }, { state: 'superseded' }))) continue;
      await this.#context.events.record(at, {
        kind: 'protection.superseded',
        severity: 'error',
        subject: { kind: 'vm', id: vmUuid },
        message:
          `VM ${protection.vm_name} was recovered at site ${siteName}: ` +
          'this copy must not run, and is not replicated',
      });
    }
  }

  /**
   * Tells each site the claims that concern it, and which it has not answered for lately. Repeated every second: a
   * site whose database was restored from a backup has forgotten what it had answered for.
   */
  async tell(): Promise<void> {
    const nowMs = this.#context.clock.monotonicMs();
    if (nowMs - this.#toldSinceMs > CLAIMS_TELL_AGAIN_MS) {
      this.#told.clear();
      this.#toldSinceMs = nowMs;
    }
    const raised = (await this.list()).filter(({ epoch, is_withdrawn: gone }) => epoch > 1 && gone === 0);
    if (raised.length === 0) return;
    await Promise.all((await this.#peers.list()).map((peer) => this.#tellPeer(peer, raised)));
  }

  async #tellPeer(peer: PeerRow, raised: readonly ClaimRecord[]): Promise<void> {
    const told = this.#told.get(peer.site_id) ?? new Map<string, string>();
    this.#told.set(peer.site_id, told);
    const news = raised
      .filter((record) => record.related_site_ids.includes(peer.site_id))
      .filter((record) => record.site_id !== peer.site_id && told.get(record.vm_uuid) !== record.signature)
      .slice(0, CLAIMS_TOLD_AT_ONCE);
    if (news.length === 0) return;
    try {
      const answers = await this.#call(peer, news, 0);
      for (const { vm_uuid: uuid, state } of answers) {
        const signature = news.find((record) => record.vm_uuid === uuid)?.signature;
        if (state !== 'refused' && signature !== undefined) told.set(uuid, signature);
      }
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
    }
  }

  /**
   * Asks the site to make its copies yield and to say when they have: bounded. Throws what keeps it from answering;
   * the claim is told again until it is taken.
   */
  async askToYield(peer: PeerRow, vmUuid: string): Promise<ClaimAnswer> {
    const record = await findClaim(this.#context.db, vmUuid);
    if (record === undefined) throw new Failure('not_found', `no epoch of VM ${vmUuid} is known`);
    const [answer] = await this.#call(peer, [record], YIELD_WAIT_MS);
    if (answer !== undefined && answer.state !== 'refused') return answer;
    throw new Failure(
      'forbidden',
      `site ${peer.site_name} does not believe it: ${answer?.message ?? 'no answer'}`,
    );
  }

  async #call(peer: PeerRow, records: readonly ClaimRecord[], waitMs: number): Promise<ClaimAnswer[]> {
    const claims = records.map((record) => ({ claim: claimOf(record), vm_name: record.vm_name }));
    const body: ClaimsTold = { claims, wait_ms: waitMs };
    const timeoutMs = waitMs === 0 ? CLAIMS_TELL_TIMEOUT_MS : waitMs + ANSWER_SLACK_MS;
    const options = { method: 'POST', path: '/peer/v1/claims', body, timeoutMs } as const;
    return (await this.#peers.call(peer, options, ClaimAnswers)).answers;
  }

  /** The other sites that may claim the VM, and are told who does. */
  async #related(at: Database, vmUuid: string, added: readonly string[]): Promise<string[]> {
    const all = new Set([...(await relatedSites(at, vmUuid)), ...added]);
    all.delete(this.#context.identity.siteId);
    return [...all];
  }

  async #authorities() {
    const { authority, identity } = this.#context;
    const own = { site_id: identity.siteId, ca_pem: authority.caPem };
    return [own, ...(await this.#peers.list())].map(({ site_id: siteId, ca_pem: pem }) => ({
      siteId,
      certificate: new X509Certificate(pem),
    }));
  }

  async #nameOf(siteId: string): Promise<string> {
    const { config, identity } = this.#context;
    if (siteId === identity.siteId) return config.siteName;
    return (await this.#peers.list()).find((peer) => peer.site_id === siteId)?.site_name ?? siteId;
  }
}

/**
 * Holds this host to I5: makes copies of VMs that run at another site yield, and keeps them from being started
 * (docs/fencing.md, section 5).
 *
 * Invariant: a claim is on disk before anything is done by it, so whatever ends this program, its next start or the
 * start hook goes on from there; and nothing is undone but by a claim of this very site.
 */
import { X509Certificate } from 'node:crypto';
import { hostname } from 'node:os';
import type { EventBuffer } from '#/control/event-buffer.ts';
import type { AgentOrders, ClaimOrder, TrustedSite } from '#/control/orders.ts';
import type { FenceReport } from '#/control/reports.ts';
import type { Clock } from '#/lib/clock.ts';
import { supersedes, verifyClaim, type EpochClaim } from '#/lib/epoch-claim.ts';
import { describe, failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { DomainEvent } from '#/libvirt/events.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { FenceRecord } from './fence-record.ts';
import type { FenceStore } from './fence-store.ts';
import type { HookKeeper } from './hook-keeper.ts';
import type { LibvirtConnection } from './libvirt-connection.ts';
import { failureReport } from './protection.ts';
import { ownCopy, readMark, yieldCopy, type YieldPolicy } from './yield-copy.ts';

/** VMs are looked at this often without a reason, and after a failure. */
const LOOK_EVERY_MS = 30_000;
const RETRY_MS = 1000;
/** The hook is seen at work once in so many looks, and after each connection. */
const HOOK_LOOKS = 120;
/** Changes that concern whether a copy runs, and whether its definition still carries its mark. */
const CHANGES: readonly string[] = [
  'started',
  'resumed',
  'suspended',
  'stopped',
  'crashed',
  'defined',
  'pmsuspended',
];

export type FencingParts = {
  siteId: string;
  libvirt: Pick<LibvirtConnection, 'ready'>;
  store: FenceStore;
  hooks: HookKeeper;
  policy: YieldPolicy;
  /** The sites whose claims are believed. */
  trust: () => readonly TrustedSite[];
  clock: Clock;
  log: Log;
  events: EventBuffer;
  changed: () => void;
};

export class Fencing {
  readonly #parts: FencingParts;
  readonly #reports = new Map<string, FenceReport>();
  /** VMs whose copy on this host is the one that may run. */
  #here: ReadonlySet<string> = new Set();
  /** Claims that could not be written to disk yet; they are acted on all the same. */
  readonly #unwritten = new Map<string, FenceRecord>();
  /** Own copies whose definition is known to carry their claim, by its signature. */
  readonly #marked = new Map<string, string>();
  #lastLibvirt: Libvirt | undefined;
  #looks = 0;
  #wakeUp = new AbortController();

  constructor(parts: FencingParts) {
    this.#parts = parts;
  }

  /** Reads the records of before; from then on they are acted on, with or without a manager. */
  async load(): Promise<void> {
    const { events, log, store } = this.#parts;
    for (const failure of await store.load()) {
      log.error('fence.unreadable', failureFields(failure));
      events.add({
        kind: 'fence.unreadable',
        severity: 'error',
        subject: { kind: 'host', id: hostname() },
        message: `${describe(failure)}: its VM is not started on this host until the manager's orders replace it`,
      });
    }
  }

  reports(): FenceReport[] {
    return [...this.#reports.values()];
  }

  /** Every claim that is on disk here, for a manager that has lost its own. */
  claims(): { claim: EpochClaim; vm_name: string }[] {
    return this.#parts.store.records().map(({ claim, vmName }) => ({ claim, vm_name: vmName }));
  }

  /** Takes the claims of the orders in: they are on disk when this resolves. What they ask for follows. */
  async take(orders: Pick<AgentOrders, 'claims'>): Promise<void> {
    const { log, trust } = this.#parts;
    const claims = orders.claims ?? [];
    this.#here = new Set(claims.filter(({ is_here: isHere }) => isHere).map(({ claim }) => claim.vm_uuid));
    const sites = new Map(trust().map((site) => [site.site_id, site]));
    for (const order of claims) {
      try {
        await this.#raise(order, sites.get(order.claim.site_id));
      } catch (error) {
        if (failureIn(error) === undefined) throw error;
        log.error('fence.refused', { vm: order.vm_name, ...failureFields(error) });
      }
    }
    this.#wakeUp.abort();
  }

  /** Something happened to a VM of this host. */
  happened(event: DomainEvent): void {
    if (event.kind !== 'lifecycle' || !CHANGES.includes(event.change)) return;
    const { uuid } = event.domain;
    if (event.change === 'defined') this.#marked.delete(uuid);
    if (this.#record(uuid) !== undefined) this.#wakeUp.abort();
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, libvirt, log } = this.#parts;
    while (!signal.aborted) {
      this.#wakeUp = new AbortController();
      let isAllWell = false;
      try {
        isAllWell = await this.#look(await libvirt.ready(signal), signal);
      } catch (error) {
        if (signal.aborted) return;
        if (failureIn(error) === undefined) throw error;
        log.warning('fence.look_failed', failureFields(error));
      }
      const wake = AbortSignal.any([signal, this.#wakeUp.signal]);
      await clock.sleep(isAllWell ? LOOK_EVERY_MS : RETRY_MS, wake).catch(() => undefined);
    }
  }

  async #raise(order: ClaimOrder, site: TrustedSite | undefined): Promise<void> {
    const { log, store } = this.#parts;
    const { claim, vm_name: vmName } = order;
    const known = this.#record(claim.vm_uuid);
    if (known !== undefined && !supersedes(claim, known.claim)) return;
    const authorities =
      site === undefined ? [] : [{ siteId: site.site_id, certificate: new X509Certificate(site.ca_pem) }];
    verifyClaim(claim, authorities);
    const record = { claim, siteName: site?.site_name ?? claim.site_id, vmName };
    log.info('fence.recorded', { vm: vmName, uuid: claim.vm_uuid, epoch: claim.epoch, site: claim.site_id });
    this.#marked.delete(claim.vm_uuid);
    try {
      await store.raise(record);
      this.#unwritten.delete(claim.vm_uuid);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      this.#unwritten.set(claim.vm_uuid, record);
      log.error('fence.unwritten', { vm: vmName, ...failureFields(error) });
    }
  }

  async #writeAgain(): Promise<void> {
    for (const [uuid, record] of this.#unwritten) {
      await this.#parts.store.raise(record);
      if (this.#unwritten.get(uuid) === record) this.#unwritten.delete(uuid);
    }
  }

  #record(vmUuid: string): FenceRecord | undefined {
    return this.#unwritten.get(vmUuid) ?? this.#parts.store.get(vmUuid);
  }

  /** True when every copy is as it should be, and the hook works. */
  async #look(libvirt: Libvirt, signal: AbortSignal): Promise<boolean> {
    const { changed, hooks, store } = this.#parts;
    const isNew = libvirt !== this.#lastLibvirt;
    if (isNew) this.#marked.clear();
    const domains = new Map((await libvirt.listDomains()).map((domain) => [domain.uuid, domain]));
    const records = new Map(store.records().map((record) => [record.claim.vm_uuid, record]));
    let isAllWell = true;
    for (const [uuid, record] of [...records, ...this.#unwritten]) {
      const isWell = await this.#hold(record, domains.get(uuid));
      isAllWell &&= isWell;
    }
    this.#lastLibvirt = libvirt;
    await this.#writeAgain();
    // Copies that run must not wait for the hook, which may wait for a daemon to reload.
    if (isNew || this.#looks++ % HOOK_LOOKS === 0) {
      await hooks.look(libvirt, signal);
      changed();
    }
    return isAllWell;
  }

  /** True when the VM stands as its record says. A VM that fails holds back no other. */
  async #hold(record: FenceRecord, domain: Domain | undefined): Promise<boolean> {
    const { siteId } = this.#parts;
    const isOwn = record.claim.site_id === siteId;
    const before = this.#reports.get(record.claim.vm_uuid);
    let report: FenceReport | undefined;
    try {
      if (domain !== undefined)
        report = await (isOwn ? this.#own(record, domain) : this.#yield(record, domain));
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      if (before?.state !== 'failing') {
        this.#parts.log.error('fence.failing', { vm: record.vmName, ...failureFields(error) });
      }
      report = { ...reportOf(record, 'failing'), failure: failureReport(failure) };
    }
    if (report === undefined) this.#reports.delete(record.claim.vm_uuid);
    else this.#reports.set(record.claim.vm_uuid, report);
    if (JSON.stringify(report) !== JSON.stringify(before)) this.#parts.changed();
    return report?.state !== 'failing';
  }

  async #yield(record: FenceRecord, domain: Domain): Promise<FenceReport> {
    const { clock, log, policy } = this.#parts;
    const { claim, siteName, vmName } = record;
    const { vmState, yieldedMs, done } = await yieldCopy(domain, { claim, policy, nowMs: clock.now() });
    if (done.length > 0) {
      log.warning('fence.yielded', {
        vm: vmName,
        epoch: claim.epoch,
        site: claim.site_id,
        done: done.join(', '),
      });
      this.#tell(record, {
        kind: 'fence.yielded',
        severity: 'warning',
        message:
          `VM ${vmName} yields: site ${siteName} has run it since ${iso(claim.issued_ms)} with epoch ${claim.epoch}. ` +
          `At ${iso(clock.now())}, ${done.join(', ')}. Its disks are as they were.`,
      });
    }
    return { ...reportOf(record, 'yielded'), vm_state: vmState, yielded_ms: yieldedMs };
  }

  /** Of a VM that this site may run: undefined when this copy may, or when it is none of ours. */
  async #own(record: FenceRecord, domain: Domain): Promise<FenceReport | undefined> {
    const { claim, vmName } = record;
    if (!this.#here.has(claim.vm_uuid)) {
      // Another copy of this site may run. This one has yielded before, and is still of the older epoch.
      if ((await readMark(domain)).yielded === undefined) return undefined;
      return await this.#yield(record, domain);
    }
    if (this.#marked.get(claim.vm_uuid) === claim.signature) return undefined;
    const what = await ownCopy(domain, claim);
    this.#marked.set(claim.vm_uuid, claim.signature);
    if (what === 'released') {
      this.#parts.log.warning('fence.released', { vm: vmName, epoch: claim.epoch });
      this.#tell(record, {
        kind: 'fence.released',
        severity: 'warning',
        message: `VM ${vmName} may run here again, with epoch ${claim.epoch}.`,
      });
    }
    return undefined;
  }

  #tell(record: FenceRecord, event: { kind: string; severity: 'info' | 'warning'; message: string }): void {
    this.#parts.events.add({ ...event, subject: { kind: 'vm', id: record.claim.vm_uuid } });
  }
}

function reportOf({ claim, vmName }: FenceRecord, state: FenceReport['state']): FenceReport {
  return {
    vm_uuid: claim.vm_uuid,
    vm_name: vmName,
    epoch: claim.epoch,
    site_id: claim.site_id,
    state,
    vm_state: '',
    yielded_ms: null,
    failure: null,
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

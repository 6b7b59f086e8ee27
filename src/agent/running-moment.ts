/**
 * A moment of a running VM: a pull-mode backup with a new checkpoint in the same call, read over NBD.
 *
 * - The checkpoint's name is random, so it is a generation stamp: an image that was restored behind libvirt's back
 *   cannot hold it, and a backup since it fails instead of telling too little (I4).
 * - Before scratch fills up, the job is ended; a guest that was paused by it goes on (I3).
 * - libvirtd may restart meanwhile: QEMU goes on serving, and whatever needs libvirt asks the connection of then.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure, hasCode } from '#/lib/failure.ts';
import { buildPullBackupXml, readBackupXml } from '#/libvirt/backup-xml.ts';
import { buildCheckpointXml } from '#/libvirt/checkpoint-xml.ts';
import type { DomainDefinition } from '#/libvirt/domain-xml.ts';
import { NbdDisk } from '#/nbd/nbd-client.ts';
import type { Moment, MomentAttachment, MomentDisk } from '#/replication/source.ts';
import { checkpointName, isStillId } from './checkpoint-names.ts';
import { readDefinition } from './definitions.ts';
import { NBD_CONNECTIONS } from './limits.ts';
import { momentAttachments } from './moment-attachments.ts';
import { ExportedDisk } from './moment-disk.ts';
import {
  dropCheckpoints,
  dropOrphan,
  endJob,
  endStaleJob,
  isTrackingError,
  runningBackup,
  trackedDisks,
} from './own-tracking.ts';
import { findDomain, type MomentParts } from './moment-parts.ts';
import { protectedDisks, type ProtectedDisk } from './protected-disks.ts';
import { watchScratch } from './scratch-watch.ts';

/** The bitmap's name in each export. */
const CHANGED = 'changed';

type Plan = {
  disks: ProtectedDisk[];
  /** Targets of the VM's other disks. */
  excluded: string[];
  /** Disks that the older checkpoint tracks. */
  tracked: Set<string>;
  checkpoint: string;
  since: string | undefined;
  socketPath: string;
  scratchDirectory: string;
};

/** Throws tracking_lost, vm_unsupported, conflict, libvirt_error, unreachable. */
export async function freezeRunning(parts: MomentParts): Promise<Moment> {
  const { options, domain, request } = parts;
  if (request.since !== undefined && isStillId(request.since)) {
    throw new Failure(
      'tracking_lost',
      `freeze VM ${domain.name}: it was started, and nothing tracked it before`,
    );
  }
  await endStaleJob(domain, options.runDirectory, options.clock);
  const [live, inactive] = await Promise.all([domain.getXml(), domain.getXml(['inactive'])]);
  const definition = readDefinition(live);
  const plan = await makePlan(parts, definition);
  await mkdir(plan.scratchDirectory, { recursive: true, mode: 0o711 });
  const momentMs = options.clock.now();
  await begin(parts, plan);
  const moment = new RunningMoment(parts, plan, momentMs);
  try {
    const attachments = await momentAttachments(inactive, readDefinition(inactive), options.tpmDirectory);
    await moment.open(attachments, request.scratchBytes);
    return moment;
  } catch (error) {
    await Promise.allSettled([moment.release('given_up')]);
    throw error;
  }
}

async function makePlan(parts: MomentParts, definition: DomainDefinition): Promise<Plan> {
  const { options, domain, request } = parts;
  const disks = await protectedDisks(definition, request.disks);
  const keys = disks.map(({ key }) => key);
  const since = request.since === undefined ? undefined : checkpointName(options.replicaId, request.since);
  await dropCheckpoints(domain, options.replicaId, since);
  const tracked = since === undefined ? [] : await trackedDisks(domain, since);
  if (tracked === undefined && since !== undefined) {
    await dropOrphan(domain, since, keys, options.clock);
    throw new Failure('tracking_lost', `freeze VM ${domain.name}: libvirt has no checkpoint ${since}`);
  }
  const scratchDirectory = join(options.scratchDirectory, options.replicaId);
  await rm(scratchDirectory, { recursive: true, force: true });
  return {
    disks,
    excluded: definition.disks.map(({ target }) => target).filter((target) => !keys.includes(target)),
    tracked: new Set(tracked),
    checkpoint: checkpointName(options.replicaId, request.next),
    since,
    socketPath: join(options.runDirectory, `${request.next.slice(0, 16)}.sock`),
    scratchDirectory,
  };
}

async function begin({ options, domain }: MomentParts, plan: Plan): Promise<void> {
  const { disks, excluded, since, tracked, socketPath } = plan;
  const backup = buildPullBackupXml({
    socketPath,
    excluded,
    disks: disks.map(({ key }) => ({
      target: key,
      exportName: key,
      scratchPath: join(plan.scratchDirectory, key),
      ...(since !== undefined && tracked.has(key) ? { incremental: since, exportBitmap: CHANGED } : {}),
    })),
  });
  const checkpointDisks = disks.map(({ key }) => ({ target: key }));
  const checkpoint = buildCheckpointXml({ name: plan.checkpoint, disks: checkpointDisks, excluded });
  try {
    await domain.backup.begin(backup, checkpoint);
  } catch (error) {
    if (since === undefined || !isTrackingError(error)) throw error;
    await dropCheckpoints(domain, options.replicaId, undefined);
    throw new Failure('tracking_lost', `freeze VM ${domain.name}: its tracking does not hold`, {
      cause: error,
    });
  }
}

class RunningMoment implements Moment {
  readonly momentMs: number;
  readonly consistency = 'crash';
  disks: MomentDisk[] = [];
  attachments: MomentAttachment[] = [];
  readonly tracking: string;
  readonly #parts: MomentParts;
  readonly #plan: Plan;
  readonly #lost = new AbortController();
  readonly #over = new AbortController();
  #exports: ExportedDisk[] = [];
  #watching: Promise<void> = Promise.resolve();
  #settled: Promise<void> | undefined;

  constructor(parts: MomentParts, plan: Plan, momentMs: number) {
    this.#parts = parts;
    this.#plan = plan;
    this.momentMs = momentMs;
    this.tracking = parts.request.next;
    const unwatch = parts.options.watch.watch(parts.domain.uuid, (event) => {
      if (event.kind !== 'lifecycle') return;
      if (event.change === 'stopped')
        this.#lose(new Failure('tracking_lost', `VM ${parts.domain.name} stopped`));
      if (event.change === 'suspended' && event.reason === 'io-error') {
        this.#lose(new Failure('scratch_full', `VM ${parts.domain.name} was paused by an I/O error`));
      }
    });
    this.#over.signal.addEventListener('abort', unwatch, { once: true });
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async open(attachments: MomentAttachment[], boundBytes: number): Promise<void> {
    this.attachments = attachments;
    this.#watching = this.#watchScratch(boundBytes);
    for (const { key, imageId } of this.#plan.disks) {
      const isTracked = this.#plan.since !== undefined && this.#plan.tracked.has(key);
      const nbd = await NbdDisk.connect(
        {
          address: { kind: 'unix', path: this.#plan.socketPath },
          exportName: key,
          // What changed since the last moment is little; a second connection would cost more than it gains.
          connections: isTracked ? 1 : NBD_CONNECTIONS,
          ...(isTracked ? { dirtyBitmap: CHANGED } : {}),
        },
        this.#parts.signal,
      );
      const disk = new ExportedDisk(nbd, (reason) => this.#lose(reason));
      this.#exports.push(disk);
      const changed = (): ReturnType<MomentDisk['changed']> => (isTracked ? disk.changed() : undefined);
      this.disks.push({ spec: { key, bytes: disk.bytes }, disk, imageId, changed });
    }
  }

  async confirm(): Promise<void> {
    this.#lost.signal.throwIfAborted();
    const xml = await runningBackup(await findDomain(this.#parts.options));
    if (xml !== undefined && readBackupXml(xml).socketPath === this.#plan.socketPath) return;
    throw new Failure('tracking_lost', `VM ${this.#parts.domain.name}: its backup job is gone`);
  }

  acknowledged(): Promise<void> {
    return (this.#settled ??= this.#settle(this.#plan.checkpoint));
  }

  release(outcome: 'given_up' | 'unknown'): Promise<void> {
    return (this.#settled ??= this.#settle(outcome === 'given_up' ? this.#plan.since : 'all'));
  }

  /** Ends the job and all checkpoints of ours but one; whatever fails here is found by the next moment. */
  async #settle(keep: string | undefined): Promise<void> {
    const { options, endTurn } = this.#parts;
    this.#over.abort();
    try {
      await Promise.all(this.#exports.map((disk) => disk[Symbol.asyncDispose]()));
      await this.#watching;
      const domain = await findDomain(options);
      await endJob(domain, options.clock);
      if (keep !== 'all') await this.#dropBut(keep);
      await rm(this.#plan.scratchDirectory, { recursive: true, force: true });
    } finally {
      endTurn();
    }
  }

  /** A VM that has stopped keeps its checkpoints: they can only be deleted while QEMU runs. */
  async #dropBut(keep: string | undefined): Promise<void> {
    const domain = await findDomain(this.#parts.options);
    const { state } = await domain.getState();
    if (state === 'shutoff' || state === 'crashed') return;
    await dropCheckpoints(domain, this.#parts.options.replicaId, keep);
  }

  async #watchScratch(boundBytes: number): Promise<void> {
    const { options, domain } = this.#parts;
    const files = this.#plan.disks.map(({ key }) => join(this.#plan.scratchDirectory, key));
    const { clock, scratchDirectory: directory } = options;
    const watch = { vm: domain.name, directory, files, boundBytes, clock };
    try {
      const reason = await watchScratch(watch, this.#over.signal);
      if (reason !== undefined) this.#lose(reason);
    } catch (error) {
      // Scratch that cannot be watched is scratch that may fill up.
      this.#lose(new Failure('scratch_full', `VM ${domain.name}: look at its scratch`, { cause: error }));
    }
  }

  /** The job ends at once, not when the cycle gets to it: the guest must not wait for that. */
  #lose(reason: Failure): void {
    if (this.#lost.signal.aborted || this.#over.signal.aborted) return;
    this.#lost.abort(reason);
    if (!hasCode(reason, 'scratch_full')) return;
    this.#watching = Promise.allSettled([this.#watching, this.#endJobNow()]).then(() => undefined);
  }

  async #endJobNow(): Promise<void> {
    await endJob(await findDomain(this.#parts.options), this.#parts.options.clock);
  }
}

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
import type { Checkpoint } from '#/libvirt/checkpoint.ts';
import type { DomainDefinition } from '#/libvirt/domain-xml.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { DomainEvent } from '#/libvirt/events.ts';
import { NbdDisk } from '#/nbd/nbd-client.ts';
import type { Moment, MomentAttachment, MomentDisk } from '#/replication/source.ts';
import { checkpointName, isStillId } from './checkpoint-names.ts';
import { readDefinition } from './definitions.ts';
import { NBD_CONNECTIONS } from './limits.ts';
import { momentAttachments } from './moment-attachments.ts';
import { ExportedDisk } from './moment-disk.ts';
import {
  dropCheckpoint,
  dropCheckpoints,
  dropOrphan,
  endJob,
  endStaleJob,
  isTrackingError,
  ownCheckpoints,
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
  /** The checkpoint of `since`; all others of ours are gone. */
  older: Checkpoint | undefined;
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
  const [job, live, inactive, checkpoints] = await Promise.all([
    runningBackup(domain),
    domain.getXml(),
    domain.getXml(['inactive']),
    ownCheckpoints(domain, options.replicaId, sinceOf(parts)),
  ]);
  if (job !== undefined) await endStaleJob(domain, options.runDirectory, options.clock);
  const plan = await makePlan(parts, readDefinition(live), checkpoints);
  await clearScratch(parts, plan);
  const momentMs = options.clock.now();
  await begin(parts, plan);
  const moment = new RunningMoment(parts, plan, momentMs);
  try {
    await moment.open(inactive, request.scratchBytes);
    return moment;
  } catch (error) {
    await Promise.allSettled([moment.release('given_up')]);
    throw error;
  }
}

/** libvirt makes the files anew in each moment, and takes them away at its end. */
async function clearScratch({ memory }: MomentParts, { scratchDirectory }: Plan): Promise<void> {
  if (!memory.isScratchClean) {
    await rm(scratchDirectory, { recursive: true, force: true });
    await mkdir(scratchDirectory, { recursive: true, mode: 0o711 });
  }
  memory.isScratchClean = false;
}

async function makePlan(
  parts: MomentParts,
  definition: DomainDefinition,
  checkpoints: readonly Checkpoint[],
): Promise<Plan> {
  const { options, domain, request, memory } = parts;
  const disks = await protectedDisks(definition, request.disks);
  const keys = disks.map(({ key }) => key);
  const since = sinceOf(parts);
  const older = checkpoints.find(({ name }) => name === since);
  for (const checkpoint of checkpoints) if (checkpoint !== older) await dropCheckpoint(checkpoint);
  const known = memory.checkpoint;
  const tracked =
    known !== undefined && known.name === older?.name ? known.targets : older && (await trackedDisks(older));
  if (tracked === undefined && since !== undefined) {
    await dropOrphan(domain, since, keys, options.clock);
    throw new Failure('tracking_lost', `freeze VM ${domain.name}: libvirt has no checkpoint ${since}`);
  }
  return {
    disks,
    excluded: definition.disks.map(({ target }) => target).filter((target) => !keys.includes(target)),
    tracked: new Set(tracked),
    checkpoint: checkpointName(options.replicaId, request.next),
    since,
    older,
    socketPath: join(options.runDirectory, `${request.next.slice(0, 16)}.sock`),
    scratchDirectory: join(options.scratchDirectory, options.replicaId),
  };
}

/** The checkpoint that the moment goes on from. */
function sinceOf({ options, request: { since } }: MomentParts): string | undefined {
  return since === undefined ? undefined : checkpointName(options.replicaId, since);
}

async function begin({ options, domain, memory }: MomentParts, plan: Plan): Promise<void> {
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
    memory.checkpoint = { name: plan.checkpoint, targets: disks.map(({ key }) => key) };
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
  readonly #jobEnded = Promise.withResolvers<void>();
  #disksEnded = 0;
  #settled: Promise<void> | undefined;

  constructor(parts: MomentParts, plan: Plan, momentMs: number) {
    this.#parts = parts;
    this.#plan = plan;
    this.momentMs = momentMs;
    this.tracking = parts.request.next;
    const unwatch = parts.options.watch.watch(parts.domain.uuid, (event) => {
      if (event.kind === 'block-job') this.#diskEnded(event);
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

  /** `xml` is the definition that the VM has at its next start. */
  async open(xml: string, boundBytes: number): Promise<void> {
    const { tpmDirectory } = this.#parts.options;
    this.#watching = this.#watchScratch(boundBytes);
    const opening = this.#plan.disks.map((disk) => this.#openDisk(disk));
    // All of them, so that whoever lets go of the moment knows what there is to let go of.
    const opened = await Promise.allSettled(opening);
    for (const result of opened) if (result.status === 'rejected') throw result.reason;
    this.disks = await Promise.all(opening);
    this.attachments = await momentAttachments(xml, readDefinition(xml), tpmDirectory);
  }

  async #openDisk({ key, imageId }: ProtectedDisk): Promise<MomentDisk> {
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
    return { spec: { key, bytes: disk.bytes }, disk, imageId, changed };
  }

  async confirm(): Promise<void> {
    this.#lost.signal.throwIfAborted();
    const xml = await runningBackup(await findDomain(this.#parts));
    if (xml !== undefined && readBackupXml(xml).socketPath === this.#plan.socketPath) return;
    throw new Failure('tracking_lost', `VM ${this.#parts.domain.name}: its backup job is gone`);
  }

  acknowledged(): Promise<void> {
    return (this.#settled ??= this.#settle((domain) => this.#dropOlder(domain)));
  }

  release(outcome: 'given_up' | 'unknown'): Promise<void> {
    const { replicaId } = this.#parts.options;
    const tidy = (domain: Domain): Promise<void> => dropCheckpoints(domain, replicaId, this.#plan.since);
    return (this.#settled ??= this.#settle(outcome === 'given_up' ? tidy : undefined));
  }

  /** Ends the job, then drops checkpoints; whatever fails here is found by the next moment. */
  async #settle(tidy: ((domain: Domain) => Promise<void>) | undefined): Promise<void> {
    const { options, memory, endTurn } = this.#parts;
    try {
      await Promise.all(this.#exports.map((disk) => disk[Symbol.asyncDispose]()));
      const domain = await findDomain(this.#parts);
      const state = await endJob(domain, options.clock, this.#jobEnded.promise);
      this.#over.abort();
      await this.#watching;
      memory.isScratchClean = true;
      // A VM that has stopped keeps its checkpoints: they can only be deleted while QEMU runs.
      if (state !== 'shutoff' && state !== 'crashed') await tidy?.(domain);
    } finally {
      this.#over.abort();
      endTurn();
    }
  }

  /** What the freeze listed is all there is, as long as libvirtd was not started again since. */
  async #dropOlder(domain: Domain): Promise<void> {
    const { replicaId } = this.#parts.options;
    if (domain !== this.#parts.domain) await dropCheckpoints(domain, replicaId, this.#plan.checkpoint);
    else if (this.#plan.older !== undefined) await dropCheckpoint(this.#plan.older);
  }

  #diskEnded({ job, status }: Extract<DomainEvent, { kind: 'block-job' }>): void {
    if (job !== 'backup' || status === 'ready') return;
    this.#disksEnded++;
    if (this.#disksEnded === this.#plan.disks.length) this.#jobEnded.resolve();
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
    await endJob(await findDomain(this.#parts), this.#parts.options.clock);
  }
}

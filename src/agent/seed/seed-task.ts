/**
 * Fills a replica of this very site from the old copy of its VM on this host, by the cycle that any replication
 * runs: the traffic stays within the site, and the site that runs the VM sends only what differs from it
 * (docs/failback.md).
 *
 * The copy is compared, not trusted: it becomes a recovery point "as it was found", dated with the time when it
 * yielded, and what it has that the other site never had is listed. Repeating it makes the same point once more.
 */
import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { SeedResult, SeedTask } from '#/control/seed-tasks.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { Backoff } from '#/lib/backoff.ts';
import { writeDurableJson } from '#/lib/durable-json.ts';
import { describe, failureIn, type Failure } from '#/lib/failure.ts';
import { systemRandom } from '#/lib/system-random.ts';
import { readDomainXml } from '#/libvirt/domain-xml.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { runCycle, type CycleResult } from '#/replication/cycle.ts';
import { readRecordState, ReplicaRecord } from '#/replication/replica-record.ts';
import type { Moment, Source } from '#/replication/source.ts';
import { LibvirtSource } from '#/agent/libvirt-source.ts';
import { protectedDisks } from '#/agent/protected-disks.ts';
import type { ProtectionParts } from '#/agent/protection.ts';
import { ReplicaConnection } from '#/agent/replica-connection.ts';
import type { Note, StepLog } from '#/agent/step-log.ts';
import { endPaused, findOldCopy, type OldCopy } from './old-copy.ts';
import { findDifferences } from './only-here.ts';
import { SeedFiles } from './seed-files.ts';

const RETRY = { firstMs: 500, maxMs: 10_000 };
/** About four minutes: a replication server that is new to the replica, or that is being started again. */
const TRIES = 30;
const EXTENTS_REPORTED = 100;

export type SeedParts = Pick<
  ProtectionParts,
  'codec' | 'identity' | 'pool' | 'turns' | 'watch' | 'clock' | 'recordsDirectory'
> &
  Pick<ProtectionParts, 'libvirt' | 'scratchDirectory' | 'runDirectory' | 'tpmDirectory'> & {
    files: SeedFiles;
  };

type Context = { libvirt: Libvirt; steps: StepLog; isUp: () => void };

/** Throws vm_unsupported, conflict, and what the last try to copy failed with. */
export async function runSeed(
  task: SeedTask,
  { libvirt, steps, isUp }: Context,
  parts: SeedParts,
  signal: AbortSignal,
): Promise<SeedResult> {
  // No VM comes up by it: it stands in no start's way.
  isUp();
  const copy = await steps.run('look at the old copy', () => findOldCopy(libvirt, task));
  await steps.run('end what was paused', (note) => endPaused(copy, note));
  signal.throwIfAborted();
  const work = new Seeding(task, { copy, parts, steps }, signal);
  const only = await steps.run('compare it with what the other site had', (note) => work.compare(note));
  const cycle = await steps.run('make it a recovery point', (note) => work.copyWithPatience(note));
  await parts.files.removeRecord(task.replica_id);
  return {
    sequence: cycle.point.sequence,
    moment_ms: cycle.momentMs,
    read_bytes: cycle.readBytes,
    changed_bytes: cycle.changedBytes,
    ...only,
  };
}

class Seeding {
  readonly #task: SeedTask;
  readonly #copy: OldCopy;
  readonly #parts: SeedParts;
  readonly #steps: StepLog;
  readonly #source: Source;
  readonly #signal: AbortSignal;

  constructor(
    task: SeedTask,
    { copy, parts, steps }: { copy: OldCopy; parts: SeedParts; steps: StepLog },
    signal: AbortSignal,
  ) {
    this.#task = task;
    this.#copy = copy;
    this.#parts = parts;
    this.#steps = steps;
    this.#signal = signal;
    const vm = { uuid: task.vm_uuid, name: task.vm_name };
    const source = new LibvirtSource({ ...parts, replicaId: task.replica_id, vm });
    this.#source = {
      freeze: async (request, until) => dated(await source.freeze(request, until), copy.yieldedMs),
    };
  }

  /** A comparison that fails is no reason not to fill the replica: the point holds everything. */
  async compare(note: Note): Promise<Pick<SeedResult, 'only_here' | 'only_here_note'>> {
    const { former_replica_id: replicaId } = this.#task;
    const { recordsDirectory, codec, files } = this.#parts;
    if (replicaId === null) return unknown(note, 'this site has not protected the VM to that site');
    const onProgress = (done: number, total: number): void => this.#steps.setProgress(done, total);
    const request = { disks: this.#task.disks, scratchBytes: 0, next: randomBytes(16).toString('hex') };
    try {
      const moment = await this.#source.freeze(request, this.#signal);
      try {
        const fs = new NodeFileSystem(recordsDirectory);
        const found = await findDifferences(moment, { fs, replicaId, codec, onProgress }, this.#signal);
        if (found === undefined) return unknown(note, 'no record of what the other site had is left');
        await moment.confirm();
        const until = await lastWrittenMs(this.#copy, this.#task.disks);
        const { sequence, afterMs, bytes, extentCount, extents } = found;
        const only = { sequence, after_ms: afterMs, until_ms: until, bytes, extent_count: extentCount };
        await writeDurableJson(await files.listPath(this.#task.replica_id), { ...only, extents });
        note(`${bytes} bytes in ${extentCount} places were written after point ${sequence}`);
        const reported = extents.slice(0, EXTENTS_REPORTED);
        return { only_here: { ...only, extents: reported }, only_here_note: null };
      } finally {
        await moment.release('given_up');
      }
    } catch (error) {
      if (this.#signal.aborted || failureIn(error) === undefined) throw error;
      return unknown(note, `it could not be compared: ${describe(error)}`);
    }
  }

  /** The replication server hears of the replica at about the same time as this host. */
  async copyWithPatience(note: Note): Promise<CycleResult> {
    const { clock } = this.#parts;
    const backoff = new Backoff(RETRY, systemRandom);
    let mayNameKey = true;
    for (let tries = 1; ; tries++) {
      try {
        const result = await this.#copyOnce(mayNameKey);
        note(`point ${result.point.sequence}`);
        return result;
      } catch (error) {
        const failure = failureIn(error);
        if (this.#signal.aborted || failure === undefined || isFinal(failure) || tries >= TRIES) throw error;
        // A server of an older version does not know the field, and ends the session.
        if (failure.code === 'protocol_corrupt') mayNameKey = false;
        note(`tried ${tries} times: ${describe(error)}`);
      }
      await clock.sleep(backoff.nextMs(), this.#signal);
    }
  }

  /** What the other site's digests are keyed by, so that those of this replica compare with them. */
  async #formerKey(): Promise<string | undefined> {
    const { former_replica_id: replicaId } = this.#task;
    if (replicaId === null) return undefined;
    const fs = new NodeFileSystem(this.#parts.recordsDirectory);
    try {
      return (await readRecordState(fs, replicaId, replicaId))?.digestKey;
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      return undefined;
    }
  }

  async #copyOnce(mayNameKey: boolean): Promise<CycleResult> {
    const { replica_id: replicaId, disks } = this.#task;
    const { clock, codec, files, identity, pool } = this.#parts;
    const digestKey = mayNameKey ? await this.#formerKey() : undefined;
    const fs = new NodeFileSystem(files.recordsDirectory);
    await files.prepare();
    await using record = await ReplicaRecord.open(fs, replicaId, replicaId);
    const context = {
      source: this.#source,
      link: new ReplicaConnection({ order: () => this.#task, identity, pool, digestKey }),
      record,
      codec,
      clock,
      random: systemRandom,
      disks,
      scratchBytes: 0,
      onProgress: ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }) =>
        this.#steps.setProgress(doneBytes, totalBytes),
    };
    return await runCycle(context, this.#signal);
  }
}

/** What waiting does not change. */
function isFinal({ code }: Failure): boolean {
  return ['vm_unsupported', 'epoch_stale', 'storage_full', 'conflict'].includes(code);
}

function unknown(note: Note, why: string): Pick<SeedResult, 'only_here' | 'only_here_note'> {
  note(why);
  return { only_here: null, only_here_note: why.slice(0, 4096) };
}

/** The copy has stood still since it yielded, so that is the moment its point is of. */
function dated(moment: Moment, momentMs: number): Moment {
  return {
    momentMs,
    consistency: moment.consistency,
    disks: moment.disks,
    attachments: moment.attachments,
    tracking: moment.tracking,
    lost: moment.lost,
    confirm: () => moment.confirm(),
    acknowledged: () => moment.acknowledged(),
    release: (outcome) => moment.release(outcome),
  };
}

async function lastWrittenMs({ domain }: OldCopy, keys: readonly string[]): Promise<number> {
  const disks = await protectedDisks(readDomainXml(await domain.getXml(['inactive'])), keys);
  const times = await Promise.all(disks.map(async ({ path }) => (await stat(path)).mtimeMs));
  return Math.ceil(Math.max(0, ...times));
}

/**
 * Tidies what we left in libvirt and in images: backup jobs of an agent that was killed, checkpoints that nobody
 * needs, records and bitmaps that have drifted apart. Touches nothing that is not this replica's.
 */
import type { Domain } from '#/libvirt/domain.ts';
import { readBackupXml } from '#/libvirt/backup-xml.ts';
import { buildRedefinedCheckpointXml, readCheckpointXml } from '#/libvirt/checkpoint-xml.ts';
import type { Checkpoint } from '#/libvirt/checkpoint.ts';
import type { DomainStateName } from '#/libvirt/domain-state.ts';
import { hasLibvirtCode, libvirtErrorIn, LibvirtCode } from '#/libvirt/errors.ts';
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import { isOwnCheckpoint } from './checkpoint-names.ts';
import { JOB_END_MS, JOB_EVENTS_MS, JOB_LOOK_MS, JOB_LOOK_MS_MAX } from './limits.ts';

/**
 * Ends a backup job that serves from a socket in `runDirectory`. Throws `conflict` when somebody else's is under
 * way: QEMU has one, and it is not ours to end.
 */
export async function endStaleJob(domain: Domain, runDirectory: string, clock: Clock): Promise<void> {
  const xml = await runningBackup(domain);
  if (xml === undefined) return;
  const { socketPath } = readBackupXml(xml);
  if (socketPath?.startsWith(`${runDirectory}/`) !== true) {
    throw new Failure('conflict', `freeze VM ${domain.name}: another program's backup of it is under way`, {
      hint: 'Wait for it, or end it with: virsh domjobabort.',
    });
  }
  await endJob(domain, clock);
}

/**
 * Ends our job, waits until it is gone, and lets a guest go on that its scratch had paused (I3). Resolves with the
 * domain's state. `ended` is when events have told that it is gone: to look before then is in vain.
 */
export async function endJob(domain: Domain, clock: Clock, ended?: Promise<void>): Promise<DomainStateName> {
  try {
    await domain.backup.end();
    if (ended !== undefined) await Promise.race([ended, clock.sleep(JOB_EVENTS_MS)]);
  } catch (error) {
    // There is none, or the domain does not run.
    if (!hasLibvirtCode(error, LibvirtCode.operationInvalid)) throw error;
  }
  const deadline = clock.monotonicMs() + JOB_END_MS;
  let lookMs = JOB_LOOK_MS;
  while ((await runningBackup(domain)) !== undefined) {
    if (clock.monotonicMs() > deadline) {
      throw new Failure('timeout', `end the backup of VM ${domain.name}: it is still under way`);
    }
    await clock.sleep(lookMs);
    lookMs = Math.min(2 * lookMs, JOB_LOOK_MS_MAX);
  }
  return await letGoOn(domain);
}

/** Whoever loses the moment and whoever lets go of it come here at the same time: one of them finds it running. */
async function letGoOn(domain: Domain): Promise<DomainStateName> {
  const { state, reason } = await domain.getState();
  if (state !== 'paused' || reason !== 'io-error') return state;
  try {
    await domain.resume();
    return 'running';
  } catch (error) {
    if (!hasLibvirtCode(error, LibvirtCode.operationInvalid)) throw error;
    const now = await domain.getState();
    if (now.state === 'paused') throw error;
    return now.state;
  }
}

/** Its definition; undefined when there is none, or the domain does not run. */
export async function runningBackup(domain: Domain): Promise<string | undefined> {
  try {
    return await domain.backup.getXml();
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noBackup, LibvirtCode.operationInvalid)) return undefined;
    throw error;
  }
}

/** Deletes all checkpoints of this replica but `keep`; their changes stay known to the one before. */
export async function dropCheckpoints(
  domain: Domain,
  replicaId: string,
  keep: string | undefined,
): Promise<void> {
  for (const checkpoint of await ownCheckpoints(domain, replicaId)) {
    if (checkpoint.name !== keep) await dropCheckpoint(checkpoint);
  }
}

/** Those of the replica, and the one named besides. */
export async function ownCheckpoints(
  domain: Domain,
  replicaId: string,
  also?: string,
): Promise<Checkpoint[]> {
  const checkpoints = await domain.checkpoints.list();
  return checkpoints.filter(({ name }) => isOwnCheckpoint(replicaId, name) || name === also);
}

/** One that is gone already is no failure. */
export async function dropCheckpoint(checkpoint: Checkpoint): Promise<void> {
  try {
    await checkpoint.delete();
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noCheckpoint)) return;
    if (libvirtErrorIn(error) === undefined) throw error;
    // The bitmap is not there, or broken: the record is all that is left to delete.
    await checkpoint.delete(['metadataOnly']);
  }
}

/** Targets of the disks that a checkpoint tracks; undefined when libvirt has no record of it any more. */
export async function trackedDisks(checkpoint: Checkpoint): Promise<string[] | undefined> {
  try {
    return readCheckpointXml(await checkpoint.getXml(['noDomain'])).disks.map(({ target }) => target);
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noCheckpoint)) return undefined;
    throw error;
  }
}

/**
 * Removes a bitmap whose record somebody deleted: libvirt is given a record for it, by which it deletes both. Where
 * there is no such bitmap, libvirt refuses the record, and all is well.
 */
export async function dropOrphan(
  domain: Domain,
  name: string,
  targets: string[],
  clock: Clock,
): Promise<void> {
  const disks = targets.map((target) => ({ target }));
  const record = { createdAtSeconds: Math.floor(clock.now() / 1000) };
  const xml = buildRedefinedCheckpointXml({ name, disks }, record);
  try {
    const checkpoint = await domain.checkpoints.create(xml, ['redefine', 'redefineValidate']);
    await dropCheckpoint(checkpoint);
  } catch (error) {
    if (libvirtErrorIn(error) === undefined) throw error;
  }
}

/** libvirt's ways of saying that a checkpoint and its bitmaps do not hold. */
export function isTrackingError(error: unknown): boolean {
  const { checkpointInconsistent, invalidCheckpoint, noCheckpoint } = LibvirtCode;
  if (hasLibvirtCode(error, checkpointInconsistent, invalidCheckpoint, noCheckpoint)) return true;
  return /bitmap|checkpoint/i.test(libvirtErrorIn(error)?.detail.message ?? '');
}

/**
 * Tracking of a recovered VM from before its first write: a checkpoint on its overlays, made while the VM is paused and
 * none of them has ever been written to (docs/failback.md, section 6).
 *
 * Invariant: what the checkpoint's bitmaps do not name is what the recovery point has. The proof is in the images, not
 * in what anybody remembers: an overlay without a single table of clusters, looked at after the checkpoint was made,
 * holds nothing that was written before it.
 */
import { randomBytes } from 'node:crypto';
import { buildCheckpointXml } from '#/libvirt/checkpoint-xml.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { readDomainXml } from '#/libvirt/domain-xml.ts';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import type { RecoverTask } from '#/control/orders.ts';
import { baselineTracking, checkpointName } from '#/agent/checkpoint-names.ts';
import { dropCheckpoints } from '#/agent/own-tracking.ts';
import { protectedDisks, type ProtectedDisk } from '#/agent/protected-disks.ts';
import { isUnwritten } from '#/agent/qcow2-overlay.ts';
import type { RecoveryState, RecoveryStates } from '#/agent/recovery-state.ts';
import type { Note } from '#/agent/step-log.ts';

export type TrackParts = {
  task: RecoverTask;
  context: { states: RecoveryStates };
  state: RecoveryState;
  note: Note;
};

/**
 * Of a VM that is paused and reads nothing. Resolves with the state, on disk: it names the tracking, or says that there
 * is none, which costs the way back a local read and nothing else. Throws `unreachable` when libvirt is away.
 */
export async function trackFromStart(domain: Domain, parts: TrackParts): Promise<RecoveryState> {
  const { task, context, state, note } = parts;
  const isDecided = state.tracking !== undefined || state.isUntracked === true;
  if (task.purpose !== 'recovery' || state.hasRun || isDecided) return state;
  const tracking = baselineTracking(task.replica_id, randomBytes(16).toString('hex'));
  try {
    await track(domain, task, checkpointName('', tracking));
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined || failure.retry === 'reconnect' || failure.code === 'cancelled') throw error;
    note(`What it writes is not tracked from its start: ${describe(error)}`);
    const untracked = { ...state, isUntracked: true as const };
    await context.states.write(untracked);
    return untracked;
  }
  const tracked = { ...state, tracking };
  await context.states.write(tracked);
  return tracked;
}

async function track(domain: Domain, task: RecoverTask, name: string): Promise<void> {
  const definition = readDomainXml(await domain.getXml());
  const disks = await protectedDisks(definition, []);
  const keys = disks.map(({ key }) => key);
  const excluded = definition.disks.map(({ target }) => target).filter((target) => !keys.includes(target));
  await requireUnwritten(disks, task);
  // What an earlier try left: it was not proven.
  await dropCheckpoints(domain, task.replica_id, undefined);
  const xml = buildCheckpointXml({ name, disks: keys.map((target) => ({ target })), excluded });
  const checkpoint = await domain.checkpoints.create(xml);
  try {
    await requireUnwritten(disks, task);
    const { state } = await domain.getState();
    if (state !== 'paused') throw new Failure('tracking_lost', `track VM ${task.name}: it is ${state}`);
  } catch (error) {
    await checkpoint.delete().catch(() => undefined);
    throw error;
  }
}

async function requireUnwritten(disks: readonly ProtectedDisk[], task: RecoverTask): Promise<void> {
  for (const { key, path } of disks) {
    if (await isUnwritten(path)) continue;
    throw new Failure('tracking_lost', `track VM ${task.name}: ${key} has been written to already`);
  }
}

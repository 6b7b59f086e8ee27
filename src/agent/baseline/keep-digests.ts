/**
 * Keeps the digests of the point that a VM was recovered from, while the replication server of this host serves it:
 * with the tracking since before the VM's first write they tell, for the way back, what the VM holds.
 *
 * A recovery does not fail by it: without them the first cycle back reads everything.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Check } from 'typebox/value';
import type { RecoverTask } from '#/control/orders.ts';
import { PointDigests } from '#/control/point-digests.ts';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { blockCount } from '#/disk/disk.ts';
import type { Clock } from '#/lib/clock.ts';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { readDomainXml } from '#/libvirt/domain-xml.ts';
import { protectedDisks } from '#/agent/protected-disks.ts';
import type { RecoveryState } from '#/agent/recovery-state.ts';
import type { Note, StepLog } from '#/agent/step-log.ts';
import type { Baselines } from './baselines.ts';

const FILE = 'digests.json';
const FILE_BYTES_MAX = 256 * 1024;

/** A replication server that is started again takes a few seconds. */
const TRIES = 15;
const RETRY_MS = 2000;

export type DigestParts = {
  task: RecoverTask;
  context: { baselines: Baselines; steps: StepLog; clock: Clock };
  state: RecoveryState;
  note: Note;
};

/**
 * Nothing when they are kept already. What cannot be kept stays tracked: libvirt might not answer while the replication
 * server is away that the disks read from. Throws `unreachable` when libvirt is.
 */
export async function keepDigests(domain: Domain, parts: DigestParts, signal: AbortSignal): Promise<void> {
  const { context, note } = parts;
  // Without libvirt the task is repeated.
  const xml = await domain.getXml(['inactive']);
  for (let tries = 1; ; tries++) {
    try {
      await keep(xml, parts, signal);
      note(null);
      return;
    } catch (error) {
      signal.throwIfAborted();
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      note(`The way back will read all disks here: ${describe(error)}`);
      if (failure.retry !== 'reconnect' || tries === TRIES) return;
    }
    await context.clock.sleep(RETRY_MS, signal);
  }
}

async function keep(xml: string, { task, context, state }: DigestParts, signal: AbortSignal): Promise<void> {
  const { tracking, uuid: vmUuid } = state;
  if (tracking === undefined || (await context.baselines.tracking(vmUuid)) === tracking) return;
  const digests = await readDigests(task);
  const disks = await protectedDisks(readDomainXml(xml), []);
  const imageIds = new Map(disks.map(({ key, imageId }) => [key, imageId]));
  const totalBytes = digests.disks.reduce((sum, { bytes }) => sum + blockCount(bytes) * DIGEST_BYTES, 0);
  const progress = (bytes: number): void =>
    context.steps.setProgress(Math.min(bytes, totalBytes), totalBytes);
  await context.baselines.keep({ vmUuid, digests, tracking, imageIds }, progress, signal);
}

async function readDigests(task: RecoverTask): Promise<PointDigests> {
  const path = join(task.view.attachments_path, FILE);
  let value: unknown;
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    if (size > FILE_BYTES_MAX) throw new Failure('limit_exceeded', `it has ${size} bytes`);
    value = JSON.parse(await file.readFile('utf8'));
  } catch (error) {
    throw new Failure('storage_io', `read ${path}, which says what the digests of the point are`, {
      cause: error,
    });
  }
  if (Check(PointDigests, value) && isOf(task.view, value)) return value;
  throw new Failure('storage_corrupt', `read ${path}: it is not about point ${task.view.sequence}`);
}

/** About the very point, whose disks have the lengths that the task says. */
function isOf(view: RecoverTask['view'], { sequence, disks }: PointDigests): boolean {
  const lengths = new Map(view.disks.map(({ key, bytes }) => [key, bytes]));
  return sequence === view.sequence && disks.every(({ key, bytes }) => lengths.get(key) === bytes);
}

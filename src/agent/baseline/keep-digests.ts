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
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { readDomainXml } from '#/libvirt/domain-xml.ts';
import { protectedDisks } from '#/agent/protected-disks.ts';
import type { RecoveryState } from '#/agent/recovery-state.ts';
import type { Note, StepLog } from '#/agent/step-log.ts';
import type { Baselines } from './baselines.ts';

const FILE = 'digests.json';
const FILE_BYTES_MAX = 256 * 1024;

export type DigestParts = {
  task: RecoverTask;
  context: { baselines: Baselines; steps: StepLog };
  state: RecoveryState;
  note: Note;
};

export async function keepDigests(domain: Domain, parts: DigestParts, signal: AbortSignal): Promise<void> {
  const { task, context, state, note } = parts;
  const { tracking, uuid: vmUuid } = state;
  if (tracking === undefined || (await context.baselines.tracking(vmUuid)) === tracking) return;
  try {
    const digests = await readDigests(task);
    const disks = await protectedDisks(readDomainXml(await domain.getXml(['inactive'])), []);
    const imageIds = new Map(disks.map(({ key, imageId }) => [key, imageId]));
    const totalBytes = digests.disks.reduce((sum, { bytes }) => sum + blockCount(bytes) * DIGEST_BYTES, 0);
    const progress = (bytes: number): void =>
      context.steps.setProgress(Math.min(bytes, totalBytes), totalBytes);
    await context.baselines.keep({ vmUuid, digests, tracking, imageIds }, progress, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (failureIn(error) === undefined) throw error;
    note(`The way back will read all disks here: ${describe(error)}`);
  }
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
  if (Check(PointDigests, value) && value.sequence === task.view.sequence) return value;
  throw new Failure('storage_corrupt', `read ${path}: it is not about point ${task.view.sequence}`);
}

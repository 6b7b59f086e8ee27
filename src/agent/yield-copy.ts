/**
 * Makes a copy of a VM yield to the claim of another site, and lets it run again once this site holds the claim
 * (docs/fencing.md, section 5). Each call does what is still to be done, so it can be repeated after a crash anywhere.
 *
 * Invariant: nothing of the copy is changed but that it does not run: its disks, its memory when it is paused, and its
 * definition but for autostart and our mark stay as they are.
 */
import type { EpochClaim } from '#/lib/epoch-claim.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import {
  EPOCH_NAMESPACE,
  EPOCH_PREFIX,
  epochMarkOf,
  epochMarkText,
  type EpochMark,
  type Yielded,
} from '#/recovery/epoch-mark.ts';

export type YieldPolicy = 'pause' | 'destroy';

export type YieldOutcome = {
  vmState: string;
  yieldedMs: number;
  /** What this call did: words for people; empty when nothing was left to do. */
  done: string[];
};

/**
 * Resolves when the copy was seen not to run. Pausing keeps the guest's memory, in which may be what it has not written
 * yet, for a person to look at; destroying is for owners who would rather have the host's memory back.
 */
export async function yieldCopy(
  domain: Domain,
  to: { claim: EpochClaim; policy: YieldPolicy; nowMs: number },
): Promise<YieldOutcome> {
  const done: string[] = [];
  const before = await readMark(domain);
  const wasRunning = await isRunning(domain);
  const isAutostarted = await hasAutostart(domain);
  const known = isSame(before.yielded, to.claim) ? before.yielded : undefined;
  const yielded = known ?? {
    epoch: to.claim.epoch,
    siteId: to.claim.site_id,
    atMs: to.nowMs,
    // What an earlier yielding has changed, nobody has changed back.
    wasPaused: (wasRunning && to.policy === 'pause') || before.yielded?.wasPaused === true,
    hadAutostart: isAutostarted || before.yielded?.hadAutostart === true,
  };
  // Before it is paused, so that whoever finds it paused knows by whom; it must yield even if that cannot be written.
  let markFailure: unknown;
  if (known === undefined) {
    markFailure = await writeMark(domain, { ...before, yielded }).then(
      () => undefined,
      (error: unknown) => error,
    );
  }
  if (wasRunning) done.push(await stopRunning(domain, to.policy));
  if (isAutostarted) {
    await domain.setAutostart(false);
    done.push('its autostart was turned off');
  }
  if (markFailure !== undefined) throw markFailure;
  const { state } = await domain.getState();
  if (await isRunning(domain)) {
    throw new Failure('libvirt_error', `make VM ${domain.name} yield: it is ${state} all the same`);
  }
  if (known === undefined && done.length === 0) done.push(`it is ${state}, and is not started any more`);
  return { vmState: state, yieldedMs: yielded.atMs, done };
}

/** The copy is the one that may run here: it carries the claim. True when it had yielded and goes on now. */
export async function ownCopy(
  domain: Domain,
  claim: EpochClaim,
): Promise<'marked' | 'released' | 'as it was'> {
  const before = await readMark(domain);
  if (before.claim?.signature === claim.signature && before.yielded === undefined) return 'as it was';
  const wasPaused = before.yielded?.wasPaused === true;
  // Before the mark, since without it nobody would know that the copy is to be resumed, and starts by itself.
  if (before.yielded?.hadAutostart === true && (await domain.isPersistent())) await domain.setAutostart(true);
  if (wasPaused && (await domain.getState()).state === 'paused') await domain.resume();
  await writeMark(domain, { claim, yielded: undefined });
  return before.yielded === undefined ? 'marked' : 'released';
}

/** What the definition says; the running one's when it runs. */
export async function readMark(domain: Domain): Promise<EpochMark> {
  try {
    return epochMarkOf(await domain.getMetadata(EPOCH_NAMESPACE));
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noDomainMetadata)) return { claim: undefined, yielded: undefined };
    throw error;
  }
}

async function writeMark(domain: Domain, mark: EpochMark): Promise<void> {
  const where = { uri: EPOCH_NAMESPACE, key: EPOCH_PREFIX };
  const isActive = !OFF.includes((await domain.getState()).state);
  const flags = [
    ...(isActive ? (['live'] as const) : []),
    ...((await domain.isPersistent()) ? (['config'] as const) : []),
  ];
  await domain.setMetadata(where, epochMarkText(mark), flags);
}

async function stopRunning(domain: Domain, policy: YieldPolicy): Promise<string> {
  if (policy === 'pause') {
    await domain.suspend();
    return 'it was paused';
  }
  try {
    await domain.destroy(['graceful']);
  } catch (error) {
    // A QEMU that does not end by itself.
    if (!hasLibvirtCode(error, LibvirtCode.operationFailed, LibvirtCode.resourceBusy)) throw error;
    await domain.destroy();
  }
  return 'it was ended';
}

const OFF: readonly string[] = ['shutoff', 'crashed'];

async function isRunning(domain: Domain): Promise<boolean> {
  const { state } = await domain.getState();
  return state === 'running' || state === 'blocked' || state === 'shutting-down';
}

async function hasAutostart(domain: Domain): Promise<boolean> {
  return (await domain.isPersistent()) && (await domain.isAutostart());
}

function isSame(yielded: Yielded | undefined, claim: EpochClaim): boolean {
  return yielded !== undefined && yielded.epoch === claim.epoch && yielded.siteId === claim.site_id;
}

/**
 * Pulls a recovered VM's disks out of the served recovery point until it stands alone.
 *
 * What counts as done is the definition of the running VM: no disk of it has a backing image. A pull that fails, as it
 * does when the replication server is restarted, is begun again; what it has copied it has. A VM that was shut down
 * meanwhile, or is left off, is held paused, where it runs nothing and libvirt can pull, and ended afterwards.
 */
import { describe, failureIn } from '#/lib/failure.ts';
import type { DomainState } from '#/libvirt/domain-state.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import {
  attributeOf,
  childOf,
  childrenOf,
  ensureElement,
  parseXml,
  removeElement,
  serializeXml,
  setAttributes,
} from '#/libvirt/xml.ts';
import type { ErrorPolicies } from '#/recovery/adapt-definition.ts';
import { consoleLogPath } from './recover-names.ts';
import type { RecoveryState } from './recovery-state.ts';
import { isMeant, isOff, type StartParts } from './sign-of-life.ts';

const POLL_MS = 250;
/** After a failure: the replication server is away, most likely. */
const RETRY_MS = 2000;

/** `policies` are what the VM's disks do on errors once they stand alone, by their keys. */
export type PullParts = StartParts & { policies: ReadonlyMap<string, ErrorPolicies> };

/** Resolves with the state of an independent VM, on disk. Throws when the VM is gone, not while the point is. */
export async function makeIndependent(
  domain: Domain,
  parts: PullParts,
  signal: AbortSignal,
): Promise<RecoveryState> {
  const { context, note } = parts;
  let { state } = parts;
  let begun: string | undefined;
  for (;;) {
    signal.throwIfAborted();
    try {
      state = await keepUp(domain, state, parts);
      const round = await pullOn(domain, parts);
      if (round.isDone) break;
      const hasFailed = round.begun !== undefined && round.begun === begun;
      begun = round.begun ?? begun;
      if (hasFailed) note(`The pull of ${begun} failed and is begun again: the recovery point is away.`);
      else if (round.begun === undefined) note(null);
      await context.clock.sleep(hasFailed ? RETRY_MS : POLL_MS, signal);
    } catch (error) {
      const isPassing =
        failureIn(error)?.code === 'libvirt_error' && !hasLibvirtCode(error, LibvirtCode.noDomain);
      if (!isPassing) throw error;
      note(`The pull is held up and tried again: ${describe(error)}`);
      await context.clock.sleep(RETRY_MS, signal);
    }
  }
  note(null);
  if (state.isHeld) await letGo(domain);
  await settleDefinition(domain, parts);
  const independent = { ...state, isHeld: false, isIndependent: true };
  await context.states.write(independent);
  return independent;
}

/** Starts a VM that went down, since only a running QEMU pulls. */
async function keepUp(domain: Domain, state: RecoveryState, parts: StartParts): Promise<RecoveryState> {
  const now: DomainState = await domain.getState();
  if (!isOff(now)) return state;
  const isHeld = state.isHeld || isMeant(now);
  const held = { ...state, isHeld };
  // Before the start: a VM that is paused by us and not known to be would be left so.
  if (isHeld !== state.isHeld) await parts.context.states.write(held);
  await domain.start(isHeld ? ['paused'] : []);
  return held;
}

/** Ends a VM that was held. One that somebody has resumed meanwhile stays up. */
async function letGo(domain: Domain): Promise<void> {
  if ((await domain.getState()).state === 'paused') await domain.destroy(['graceful']);
}

/**
 * Done when no disk depends on the recovery point any more; begins the next pull when none is under way.
 *
 * One disk at a time: when two pulls of a VM end together, libvirt asks QEMU for its block nodes after the first while
 * the second is concluded and not dismissed, and QEMU 7.2 crashes on the second's filter node, which has no child then.
 */
async function pullOn(
  domain: Domain,
  { task, context }: StartParts,
): Promise<{ isDone: boolean; begun?: string }> {
  const total = task.view.disks.reduce((sum, disk) => sum + disk.bytes, 0);
  const dependent = await dependentDisks(domain);
  const jobs = await Promise.all(dependent.map(async (key) => await domain.disk(key).getJob()));
  let pulled = total;
  for (const [index, key] of dependent.entries()) {
    const bytes = task.view.disks.find((disk) => disk.key === key)?.bytes ?? 0;
    pulled -= bytes - Math.min(jobs[index]?.currentUnits ?? 0, bytes);
  }
  context.steps.setProgress(Math.max(0, pulled), total);
  const [next] = dependent;
  if (next === undefined) return { isDone: true };
  if (jobs.some((job) => job !== undefined)) return { isDone: false };
  await beginPull(domain, next);
  return { isDone: false, begun: next };
}

async function beginPull(domain: Domain, key: string): Promise<void> {
  try {
    await domain.disk(key).pull();
  } catch (error) {
    // A job that began between the question and the call.
    if (!hasLibvirtCode(error, LibvirtCode.blockCopyActive)) throw error;
  }
}

async function dependentDisks(domain: Domain): Promise<string[]> {
  const devices = childOf(parseXml(await domain.getXml(), `the definition of ${domain.name}`), 'devices');
  return (devices === undefined ? [] : childrenOf(devices, 'disk'))
    .filter((disk) => attributeOf(childOf(disk, 'backingStore'), 'type') !== undefined)
    .map((disk) => attributeOf(childOf(disk, 'target'), 'dev') ?? '');
}

/**
 * Stopping on errors was for the time on the replica; from its next start on the VM has the policies that it had on
 * the protected site, and no trace of the recovery point.
 */
async function settleDefinition(domain: Domain, { context, policies, state }: PullParts): Promise<void> {
  const definition = parseXml(
    await domain.getXml(['inactive', 'secure']),
    `the definition of ${domain.name}`,
  );
  const devices = childOf(definition, 'devices');
  if (devices === undefined) return;
  for (const disk of childrenOf(devices, 'disk')) {
    const policy = policies.get(attributeOf(childOf(disk, 'target'), 'dev') ?? '');
    if (policy === undefined) continue;
    for (const backing of childrenOf(disk, 'backingStore')) removeElement(backing);
    setAttributes(ensureElement(disk, 'driver'), policy);
  }
  for (const terminal of [...childrenOf(devices, 'serial'), ...childrenOf(devices, 'console')]) {
    for (const log of childrenOf(terminal, 'log')) {
      if (attributeOf(log, 'file') === consoleLogPath(state.directory)) removeElement(log);
    }
  }
  await context.libvirt.defineDomain(serializeXml(definition));
}

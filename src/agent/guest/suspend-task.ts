/**
 * Pauses a VM to make room for others, and lets it go on. The mark in its definition comes before the pause and goes
 * after the end of it, so a repeat after a crash knows whose pause it finds. What a person has paused stays paused.
 */
import type { ResumeTask, SuspendTask } from '#/control/guest-tasks.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import { epochMarkIn } from '#/recovery/epoch-mark.ts';
import { SUSPEND_NAMESPACE, SUSPEND_PREFIX, suspendersOf, suspendMarkText } from '#/recovery/suspend-mark.ts';
import { domainOf, type GuestContext } from './guest-context.ts';

type Outcome = { state: string; changed: boolean };

/** Throws Failure not_found, libvirt_error. */
export async function runSuspend(task: SuspendTask, context: GuestContext): Promise<Outcome> {
  const domain = await domainOf(task, context);
  return await context.steps.run('pause', async (note) => {
    const by = await suspenders(domain);
    const before = await stateOf(domain);
    const isOurs = by.length > 0;
    if (before !== 'running' && !(before === 'paused' && isOurs)) {
      note(`It is ${before} and stays so.`);
      return { state: before, changed: false };
    }
    if (!by.includes(task.id)) await mark(domain, [...by, task.id]);
    if (before === 'running') await domain.suspend();
    return { state: await stateOf(domain), changed: before === 'running' };
  });
}

/** Throws Failure not_found, libvirt_error. */
export async function runResume(task: ResumeTask, context: GuestContext): Promise<Outcome> {
  const domain = await domainOf(task, context);
  return await context.steps.run('let it go on', async (note) => {
    const by = await suspenders(domain);
    const others = by.filter((id) => id !== task.suspend_id);
    const before = await stateOf(domain);
    if (others.length === by.length) return { state: before, changed: false };
    const isFree = others.length === 0 && before === 'paused';
    // A copy that has yielded since must not run, whoever paused it first.
    const hasYielded = epochMarkIn(await domain.getXml(['inactive']))?.yielded !== undefined;
    const changed = isFree && !hasYielded;
    if (changed) await domain.resume();
    else if (isFree) note('It has yielded to another site and stays paused.');
    else if (others.length > 0) note('Another plan run still needs its room.');
    await mark(domain, others);
    return { state: await stateOf(domain), changed };
  });
}

async function stateOf(domain: Domain): Promise<string> {
  return (await domain.getState()).state;
}

async function suspenders(domain: Domain): Promise<string[]> {
  try {
    return suspendersOf(await domain.getMetadata(SUSPEND_NAMESPACE));
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noDomainMetadata)) return [];
    throw error;
  }
}

/** In what runs and in what will; a transient VM has no other definition than the one that runs. */
async function mark(domain: Domain, taskIds: readonly string[]): Promise<void> {
  const where = { uri: SUSPEND_NAMESPACE, key: SUSPEND_PREFIX };
  const isUp = ['running', 'paused'].includes(await stateOf(domain));
  const live = isUp ? (['live'] as const) : [];
  const config = (await domain.isPersistent()) ? (['config'] as const) : [];
  await domain.setMetadata(where, suspendMarkText(taskIds), [...live, ...config]);
}

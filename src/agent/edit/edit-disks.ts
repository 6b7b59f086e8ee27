/**
 * Gives a VM that does not run its addresses and host name by its disks, or takes that back. It is done to overlays
 * of a recovery before their VM is defined (src/agent/recover-task.ts), so an edit that was cut is never started: its
 * overlays are made anew.
 */
import { describe, Failure } from '#/lib/failure.ts';
import { Appliance, type ApplianceDisk } from './appliance.ts';
import { applyEdit, restoreFiles } from './edit-record.ts';
import { decideEdit, type Edit, type OfflineWish } from './decide-edit.ts';
import { readFacts } from './guest-facts.ts';
import { listFileSystems, mountRoot, type GuestRoot } from './guest-root.ts';

export type Edited = {
  /** The file system that was edited. */
  root: string;
  /** Null when the guest is only put back as it was before. */
  method: Edit['method'] | null;
  changed: string[];
  isRestored: boolean;
};

export type EditLimits = { signal: AbortSignal; timeoutMs: number; isEmulated: boolean };

/**
 * `wish` null puts back what was there before. Throws vm_unsupported (nothing was changed, and why), tool_failed,
 * timeout, and what the signal aborts with; then the images are not to be used.
 */
export async function editDisks(
  disks: readonly ApplianceDisk[],
  wish: OfflineWish | null,
  { signal, timeoutMs, isEmulated }: EditLimits,
): Promise<Edited> {
  const limit = AbortSignal.timeout(timeoutMs);
  try {
    const until = AbortSignal.any([signal, limit]);
    await using appliance = await Appliance.open(disks, { signal: until, isEmulated });
    const root = await mountRoot(appliance, await listFileSystems(appliance));
    const edited = await editRoot(root, wish);
    await appliance.close();
    return edited;
  } catch (error) {
    signal.throwIfAborted();
    if (!limit.aborted) throw error;
    throw new Failure('timeout', `the disks were not edited within ${Math.round(timeoutMs / 1000)} s`, {
      cause: error,
      hint: 'Without KVM libguestfs takes a minute or more. Set a longer time, or customize_by: agent.',
    });
  }
}

export async function editRoot({ device, tree }: GuestRoot, wish: OfflineWish | null): Promise<Edited> {
  // A second time, what is kept is what was there before the first.
  const isRestored = await restoreFiles(tree);
  if (wish === null) return { root: device, method: null, changed: [], isRestored };
  const edit = decideEdit(await readFacts(tree), wish);
  await applyEdit(tree, edit);
  const changed = [...edit.writes.map(({ path }) => path), ...edit.removes];
  return { root: device, method: edit.method, changed, isRestored };
}

/** For people: what was done to which files. */
export function editNote({ root, method, changed, isRestored }: Edited): string {
  if (method === null)
    return isRestored ? `put back as it was on ${root}` : `nothing was changed before on ${root}`;
  const how = method === 'none' ? 'host name' : `by ${method}`;
  return `${how}, on ${root}: ${changed.join(', ')}`;
}

export function notEdited(error: unknown): string {
  return `The addresses were not changed: ${describe(error)}`;
}

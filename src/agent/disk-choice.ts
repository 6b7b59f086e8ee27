/**
 * Which disks the next cycle takes, and what is worth telling of the others: a disk that was added while the VM is
 * protected is taken in or reported, by policy; one that was detached is left out; neither stops the rest. Pure.
 */
import type { ProtectionOrder } from '#/control/orders.ts';
import type { VmReport } from '#/control/reports.ts';

export type DiskChoice = {
  /** Keys; empty means all, each of which must be fit for it. */
  disks: string[];
  notices: string[];
};

/** `recorded` are the disks of the newest point; none before the first. */
export function chooseDisks(
  order: Pick<ProtectionOrder, 'disks' | 'added_disks'>,
  recorded: readonly string[],
  vm: VmReport | undefined,
): DiskChoice {
  if (recorded.length === 0 || vm === undefined) return { disks: [...order.disks], notices: [] };
  const present = new Map(vm.disks.map((disk) => [disk.key, disk.refusal]));
  const notices: string[] = [];
  const wanted = order.disks.length > 0 ? order.disks : recorded;
  const disks = wanted.filter((key) => present.has(key));
  for (const key of wanted) {
    if (!present.has(key)) notices.push(`Disk ${key} is detached; newer points are without it.`);
  }
  for (const [key, refusal] of present) {
    if (disks.includes(key)) continue;
    if (order.disks.length > 0) continue;
    if (refusal !== null) notices.push(`Added disk ${key} is not replicated: ${refusal}`);
    else if (order.added_disks === 'replicate') disks.push(key);
    else notices.push(`Added disk ${key} is not replicated, as the protection's policy says.`);
  }
  // Nothing left would mean all of them: the wanted ones fail with a sentence that names what is missing.
  return { disks: disks.length > 0 ? disks : [...wanted], notices: notices.slice(0, NOTICES_MAX) };
}

const NOTICES_MAX = 16;

/**
 * Whether a VM can be protected as asked, decided at the protected site before anything is changed. Each refusal
 * names the thing and the way out.
 */
import type { ReplicaRequest } from '#/api/peer.ts';
import { RPO_MS_MAX, RPO_MS_MIN, type ProtectionRequest } from '#/api/protections.ts';
import type { VmReport } from '#/control/reports.ts';
import { Failure } from '#/lib/failure.ts';

export function checkRpo(rpoMs: number): void {
  if (rpoMs < RPO_MS_MIN) {
    throw new Failure('usage_invalid', `an RPO of ${rpoMs} ms is below the floor of ${RPO_MS_MIN} ms`, {
      hint: `Ask for ${RPO_MS_MIN} ms (--rpo 1s) or more.`,
    });
  }
  if (rpoMs > RPO_MS_MAX) {
    throw new Failure('usage_invalid', `an RPO of ${rpoMs} ms is above the ceiling of ${RPO_MS_MAX} ms`, {
      hint: 'Check the unit: the API takes milliseconds, the command line --rpo 15m.',
    });
  }
}

/** Throws vm_unsupported when its host says that the VM as a whole cannot be protected. */
export function checkVm(vm: VmReport): void {
  if (vm.recovered_by_task !== null && vm.name.endsWith('-test')) {
    throw new Failure('vm_unsupported', `VM ${vm.name} is the copy of a test recovery`, {
      hint: 'Protect the VM itself; the copy goes with: antipode cleanup',
    });
  }
  if (vm.refusals.length === 0) return;
  throw new Failure('vm_unsupported', `VM ${vm.name} cannot be protected: ${vm.refusals.join('; ')}`, {
    hint: 'Take that out of its definition, if the VM can do without; no choice of disks helps.',
  });
}

/** The disks to replicate. Throws not_found for one the VM does not have, vm_unsupported for one that cannot be. */
export function chooseDisks(vm: VmReport, wanted: ProtectionRequest['disks']): ReplicaRequest['disks'] {
  const isAll = wanted === undefined || wanted.length === 0;
  for (const key of wanted ?? []) {
    if (vm.disks.some((disk) => disk.key === key)) continue;
    const keys = vm.disks.map((disk) => disk.key).join(', ');
    throw new Failure('not_found', `VM ${vm.name} has no disk "${key}"`, { hint: `It has: ${keys}.` });
  }
  const chosen = vm.disks.filter((disk) => isAll || wanted.includes(disk.key));
  const refused = chosen.find((disk) => disk.refusal !== null);
  if (refused !== undefined) {
    const others = vm.disks.filter((disk) => disk.refusal === null).map((disk) => `--disk ${disk.key}`);
    // What would make this disk fit is in the sentence of its refusal.
    const wayOut =
      others.length === 0
        ? 'The VM has no other disk that could be replicated.'
        : `Change that, or replicate the others only: ${others.join(' ')}`;
    throw new Failure('vm_unsupported', `disk ${refused.key} of VM ${vm.name}: ${refused.refusal}`, {
      hint: wayOut,
    });
  }
  if (chosen.length === 0) {
    throw new Failure('vm_unsupported', `VM ${vm.name} has no disk that could be replicated`);
  }
  return chosen.map((disk) => ({
    key: disk.key,
    bytes: disk.bytes,
    need_bytes: Math.min(disk.bytes, disk.allocated_bytes ?? disk.bytes),
  }));
}

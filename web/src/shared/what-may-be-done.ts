/**
 * What may be done in which state: for each action a function that says why not, or nothing when it may be done. The
 * manager decides; this is so that nobody presses a button that could only be refused.
 */
import { may } from '#/api/session.ts';
import type { Permission } from '#/api/session.ts';
import type { Recovery, Run, RunStep, RunVm, VmRow, VmStatus } from '#/api/types.ts';
import { whyNotMove, whyNotSkip, whyNotStart, type RunMove } from './run-moves.ts';

export type WhyNot = string | undefined;

const NEEDS: Record<Permission, string> = {
  'site.view': 'look at this site',
  'site.manage': 'manage this site',
  'access.manage': 'manage users',
  'protection.manage': 'protect VMs',
  'plan.manage': 'change plans',
  'recovery.test': 'test recoveries',
  'recovery.run': 'recover VMs',
  'console.test': 'see the screens of tests',
  'console.run': 'see the screens of recovered VMs',
};

function lacks(permission: Permission): WhyNot {
  return may(permission) ? undefined : `Your roles do not allow to ${NEEDS[permission]}.`;
}

export function canProtect(row: VmRow): WhyNot {
  if (row.host_id === null) return 'It is on no host of this site: protect it where it runs.';
  if (row.standing === 'refused') return `It cannot be protected: ${row.reasons.join(' ')}`;
  if (row.standing !== 'unprotected' && row.standing !== 'kept') return 'It is protected already.';
  return lacks('protection.manage');
}

export function canUnprotect(status: VmStatus): WhyNot {
  if (status.protection_id === null) return 'There is no protection to take away.';
  return status.state === 'removing' ? 'It is being taken away.' : lacks('protection.manage');
}

export function canChange(status: VmStatus): WhyNot {
  if (status.protection_id === null) return 'There is no protection to change.';
  if (status.state === 'removing' || status.state === 'superseded') return 'It is not protected any more.';
  return lacks('protection.manage');
}

export function canTest(status: VmStatus): WhyNot {
  return status.point === null ? 'There is no recovery point yet.' : lacks('recovery.test');
}

export function canRecover(status: VmStatus): WhyNot {
  if (status.point === null) return 'There is no recovery point yet.';
  if (status.state === 'recovered') return 'It has been recovered here already.';
  return lacks('recovery.run');
}

export function canMigrate(status: VmStatus, isNewest: boolean): WhyNot {
  if (!isNewest) return 'A planned migration brings over the last state; it is of no older moment.';
  return canRecover(status);
}

const runPermission = (kind: string): Permission => (kind === 'test' ? 'recovery.test' : 'recovery.run');

export function canCleanUp(recovery: Recovery): WhyNot {
  if (recovery.state === 'cleaning') return 'It is being cleaned up.';
  if (recovery.state === 'cleaned') return 'Everything it made is gone already.';
  if (recovery.state === 'done') return 'It is done: the VM runs here for production.';
  return lacks(runPermission(recovery.purpose));
}

/** Production that failed once its VM was up goes on; anything else has nothing to go on with. */
export function canRetry(recovery: Recovery): WhyNot {
  if (recovery.state !== 'failed') return `Only what failed goes on: it is ${recovery.state}.`;
  if (recovery.purpose === 'test') return 'A test is cleaned up, and started again.';
  const last = recovery.steps.at(-1);
  const isUp = last?.name === 'close_view' || typeof recovery.result?.['vm_uuid'] === 'string';
  const isRepeatable = last?.state === 'failed' && ['recover', 'close_view'].includes(last.name);
  if (!isUp || !isRepeatable) return 'It failed before its VM was up: clean it up, and recover again.';
  return lacks('recovery.run');
}

const consolePermission = (kind: string): Permission => (kind === 'test' ? 'console.test' : 'console.run');

export function canOpenConsole(recovery: Recovery): WhyNot {
  if (recovery.state === 'cleaning' || recovery.state === 'cleaned') return 'Its VM is gone.';
  const isBroughtUp = recovery.steps.some(({ name }) => name === 'recover');
  return isBroughtUp ? lacks(consolePermission(recovery.purpose)) : 'Its VM is not up yet.';
}

export function canOpenConsoleOf(run: Run, vm: RunVm): WhyNot {
  if (vm.job_id === null || vm.state === 'waiting') return 'It is not up yet.';
  if (vm.state === 'removed') return 'It is gone.';
  if (vm.state === 'off') return 'It is left off, and has no screen.';
  return lacks(consolePermission(run.kind));
}

/** The manager knows for which of the two it was brought up. */
export function canOpenConsoleHere(row: VmRow): WhyNot {
  if (row.recovery_id === null)
    return 'Only VMs that were recovered here, or are tested, have a console here.';
  if (row.state === 'shutoff') return 'It is off, and has no screen.';
  return lacks('console.run') === undefined ? undefined : lacks('console.test');
}

/** Of a VM that was recovered here. */
export function canReprotect(status: VmStatus): WhyNot {
  if (status.state !== 'recovered') return 'It was not recovered here.';
  return lacks('recovery.run');
}

export function canMoveRun(move: RunMove, run: Run): WhyNot {
  return whyNotMove(move, run) ?? lacks(runPermission(run.kind));
}

export function canSkipStep(run: Run, step: RunStep): WhyNot {
  return whyNotSkip(run, step) ?? lacks(runPermission(run.kind));
}

/** Any run of the plan that is known here and not over keeps others from beginning. */
export function canStartRun(kind: string, plan?: string, runs: readonly Run[] = []): WhyNot {
  const open = plan === undefined ? undefined : whyNotStart(plan, runs);
  return open ?? lacks(runPermission(kind));
}

export function canManage(permission: Permission): WhyNot {
  return lacks(permission);
}

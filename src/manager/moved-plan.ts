/** Telling the site that VMs came from how the plan was run that brought them here, so that it can bring them home. */
import type { MovedPlan, MovedVm } from '#/api/moved-plans.ts';
import { Failure } from '#/lib/failure.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import { checkIsOver, findMove, movedHere, nothingHere, type MovedHere } from './moved-vms.ts';

/** Another site learns of no VM but its own. Throws not_found, conflict. */
export async function movedPlan(
  context: Context,
  claims: Claims,
  asked: { siteId: string; plan: string },
): Promise<MovedPlan> {
  const run = await findMove(context, asked.plan);
  const { plan } = run;
  const own = (await movedHere(context, claims, run)).filter(({ vm }) => vm.sourceSiteId === asked.siteId);
  if (own.length === 0) {
    throw new Failure('not_found', `plan ${plan.planName} has brought no VM of the asking site up here`);
  }
  checkIsOver(run);
  const here = own.filter(({ isHere, job }) => isHere && job === undefined);
  if (here.length === 0) throw nothingHere(run, own);
  return {
    run_id: run.id,
    plan: plan.planName,
    vms: here.map(movedVm),
    before: plan.before,
    after: plan.after,
    priorities: plan.priorities,
  };
}

function movedVm({ vm, hasOtherAddresses }: MovedHere): MovedVm {
  return {
    vm_uuid: vm.vmUuid,
    vm_name: vm.vmName,
    priority: vm.priority,
    depends_on: vm.dependsOn,
    start: vm.start,
    shut_down: vm.shutDown.mode,
    shut_down_timeout_ms: vm.shutDown.timeoutMs,
    health: vm.health,
    before: vm.before,
    after: vm.after,
    has_other_addresses: hasOtherAddresses,
  };
}

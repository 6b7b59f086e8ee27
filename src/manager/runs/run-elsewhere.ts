/**
 * VMs of a plan that neither the site they are protected by nor this one runs: a third site has recovered them since.
 * A run takes none from a site that answers and runs it; a person does, VM by VM.
 */
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import type { Peers } from '#/manager/peers.ts';
import type { ResolvedVm } from '#/manager/plans/resolved-plan.ts';
import { presenceAt } from '#/manager/recovery-check.ts';
import { listClaims } from '#/manager/store/claim-store.ts';

/** By the VM's UUID: why it cannot come up, or, of a site that does not answer, what is to be known. */
export async function runElsewhere(
  context: Context,
  peers: Peers,
  vms: readonly ResolvedVm[],
): Promise<Map<string, Failure | string>> {
  const { db, identity } = context;
  const claims = new Map((await listClaims(db)).map((claim) => [claim.vm_uuid, claim]));
  const sites = await peers.list();
  const found = await Promise.all(
    vms.map(async (vm): Promise<[string, Failure | string][]> => {
      const claim = claims.get(vm.vm_uuid);
      const isThird = ![identity.siteId, vm.source_site_id, undefined].includes(claim?.site_id);
      if (claim === undefined || claim.is_withdrawn === 1 || !isThird) return [];
      const peer = sites.find(({ site_id: id }) => id === claim.site_id);
      const where = `site ${peer?.site_name ?? claim.site_id} since epoch ${claim.epoch}`;
      const presence =
        peer === undefined ? 'silent' : await presenceAt(context, peers, { peer, replica: vm });
      if (presence === 'answers') return [];
      if (presence === 'silent') {
        return [[vm.vm_uuid, `VM ${vm.vm_name} has been run by ${where}, which does not answer`]];
      }
      const failure = new Failure('conflict', `VM ${vm.vm_name} runs at ${where}`, {
        hint: `To take it from there all the same: antipode recover ${vm.vm_name} --force`,
      });
      return [[vm.vm_uuid, failure]];
    }),
  );
  return new Map(found.flat());
}

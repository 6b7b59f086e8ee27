/** Finds the manager that keeps a VM's replica, when a lab has several and none was named. */
import type { Page } from '#/api/common.ts';
import type { ReplicaView } from '#/api/replicas.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { say, type CommonOptions } from './command.ts';
import { ManagerApi } from './manager-api.ts';
import { candidateTargets, chooseTarget, whichSite } from './manager-target.ts';

/** Throws usage_invalid when several of them keep one, not_found when none does, unreachable when one is silent. */
export async function managerWithReplica(options: CommonOptions, vm: string): Promise<ManagerApi> {
  const candidates = await candidateTargets(options);
  if (candidates.length < 2) return new ManagerApi(await chooseTarget(options));
  const holders: string[] = [];
  const silent: string[] = [];
  let holder: ManagerApi | undefined;
  for (const { site, target } of candidates) {
    const api = new ManagerApi(target);
    try {
      const { items } = await api.get<Page<ReplicaView>>('/replicas');
      if (!items.some((replica) => [replica.id, replica.vm_name, replica.vm_uuid].includes(vm))) continue;
      holders.push(site);
      holder = api;
    } catch (error) {
      // A site that is down is why people recover; it keeps nothing that could be recovered now.
      if (failureIn(error)?.retry !== 'reconnect') throw error;
      silent.push(site);
    }
  }
  if (holder === undefined) throw nowhere(vm, candidates, silent);
  if (holders.length > 1) throw whichSite(candidates.map(({ site }) => site));
  say(`the replica of ${vm} is at ${holders[0]}`);
  return holder;
}

function nowhere(vm: string, candidates: readonly { site: string }[], silent: readonly string[]): Failure {
  if (silent.length > 0) {
    const names = silent.join(', ');
    return new Failure('unreachable', `no replica of "${vm}" is known, and the manager of ${names} is down`, {
      hint: `Start it, in a lab with: antipode lab start ${silent[0]}/manager`,
    });
  }
  const names = candidates.map(({ site }) => site).join(', ');
  return new Failure('not_found', `no site of the lab keeps a replica of "${vm}" (${names})`, {
    hint: `See what is protected with: antipode status --site ${candidates[0]!.site}`,
  });
}

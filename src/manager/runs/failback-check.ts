/**
 * Whether the VMs of a plan can be brought home, asked of the site where they are before anything is changed. What is
 * run is the plan as that site ran it last, turned round (failback-plan.ts).
 */
import { MovedPlan } from '#/api/moved-plans.ts';
import type { RunCheck, RunRequest } from '#/api/runs.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import type { Peers } from '#/manager/peers.ts';
import { problemOf } from '#/manager/problem.ts';
import { jobsInState } from '#/manager/store/job-store.ts';
import type { PeerRow } from '#/manager/store/peer-store.ts';
import { listReplicas } from '#/manager/store/replica-store.ts';
import { compileRun } from './compile-run.ts';
import { checkProgram } from './execute/command.ts';
import { turnRound } from './failback-plan.ts';
import { OPEN_JOBS, type Checked } from './run-check.ts';
import type { RunPlan } from './run-plan.ts';
import { checkVm } from './run-vm-check.ts';

/** Throws not_found, conflict, unreachable when no site is known that the VMs could come from. */
export async function checkFailback(context: Context, peers: Peers, asked: RunRequest): Promise<Checked> {
  const { db } = context;
  const { peer, moved } = await whereTheyAre(peers, asked);
  const replicas = (await listReplicas(db)).filter((replica) => replica.source_site_id === peer.site_id);
  const { plan, unprotected, notes } = turnRound(moved, replicas);
  const refusals: RunCheck['refusals'] = [];
  const add = (failure: Failure): void => void refusals.push(problemOf(failure));
  if (asked.at_ms !== undefined || asked.points !== undefined) {
    add(new Failure('usage_invalid', 'a failback takes the last state, not an earlier point'));
  }
  for (const name of unprotected) add(notProtected(name, peer, moved.plan));
  for (const failure of await programsMissing(context, plan)) add(failure);
  const jobs = await jobsInState(db, OPEN_JOBS);
  const found = plan.vms.map((vm) => {
    const replica = replicas.find(({ id }) => id === vm.replicaId)!;
    const about = {
      vm_uuid: vm.vmUuid,
      vm_name: vm.vmName,
      priority: vm.priority,
      host: null,
      host_name: null,
      addresses: [],
      customize_by: 'agent',
      customize_on_failure: 'abort',
    } as const;
    if (replica.state === 'kept') add(notProtected(vm.vmName, peer, moved.plan));
    return checkVm(context, { asked, vm: about, replica, jobs, isSilent: false });
  });
  for (const { failures } of found) for (const failure of failures) add(failure);
  return {
    plan,
    check: {
      plan: moved.plan,
      kind: asked.kind,
      is_possible: refusals.length === 0,
      refusals,
      warnings: [...notes, ...found.flatMap(({ warnings }) => warnings)],
      vms: found.map(({ vm }) => vm),
    },
  };
}

/** The one paired site that has run the plan and has VMs of this site from it; or the one that was named. */
async function whereTheyAre(
  peers: Peers,
  { plan, site }: RunRequest,
): Promise<{ peer: PeerRow; moved: MovedPlan }> {
  const asked = site === undefined ? await peers.list() : [await peers.find(site)];
  const failures: Failure[] = [];
  const found: { peer: PeerRow; moved: MovedPlan }[] = [];
  await Promise.all(
    asked.map(async (peer) => {
      try {
        const path = `/peer/v1/plans/${encodeURIComponent(plan)}/moved`;
        found.push({ peer, moved: await peers.call(peer, { method: 'GET', path }, MovedPlan) });
      } catch (error) {
        const failure = failureIn(error);
        if (failure === undefined) throw error;
        // Of a site that has no such plan nothing is to be told, unless it was named.
        if (failure.code !== 'not_found' || site !== undefined) failures.push(failure);
      }
    }),
  );
  const [first] = found;
  if (found.length > 1) {
    const names = found.map(({ peer }) => peer.site_name).join(', ');
    throw new Failure('conflict', `several sites have VMs of this one by a plan ${plan}: ${names}`, {
      hint: 'Name the one that they are to come home from: --from SITE',
    });
  }
  if (first !== undefined) return first;
  if (failures[0] !== undefined) throw failures[0];
  throw new Failure('not_found', `no paired site has VMs of this one by a plan ${plan}`, {
    hint: 'The command belongs at the site that the VMs came from. One VM alone: antipode failback VM',
  });
}

/** Programs of the plan were those of the other manager: this one has to have them as well. */
async function programsMissing({ config }: Context, plan: RunPlan): Promise<Failure[]> {
  const commands = new Set<string>();
  for (const { body } of compileRun(plan)) if (body.kind === 'command') commands.add(body.command);
  const failures: Failure[] = [];
  for (const command of commands) {
    try {
      await checkProgram(command, config.planCommandsDirectory);
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      failures.push(failure);
    }
  }
  return failures;
}

function notProtected(name: string, peer: PeerRow, plan: string): Failure {
  return new Failure(
    'conflict',
    `VM ${name}, which runs at site ${peer.site_name}, is not protected to this one`,
    {
      hint: `Protect it first, there: antipode plan reprotect ${plan}`,
    },
  );
}

/**
 * Whether a run of a plan can begin, found out before anything is changed. Everything that speaks against it is told
 * at once, and so is the age of what each VM would come up from.
 */
import { VmPresence } from '#/api/peer.ts';
import type { RunCheck, RunRequest } from '#/api/runs.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import type { Plans } from '#/manager/plans/plans.ts';
import { surveyPlan, type ResolvedPlan, type ResolvedVm } from '#/manager/plans/resolved-plan.ts';
import { problemOf } from '#/manager/problem.ts';
import type { Peers } from '#/manager/peers.ts';
import { jobsInState } from '#/manager/store/job-store.ts';
import { runElsewhere } from './run-elsewhere.ts';
import { isPlanned, type RunPlan, type SuspendedVm } from './run-plan.ts';
import { checkVm, type Found } from './run-vm-check.ts';

export const OPEN_JOBS = ['running', 'ready', 'cleaning', 'failed'] as const;
const SITE_TIMEOUT_MS = 2000;

export type Checked = { check: RunCheck; plan: RunPlan };

export async function checkRun(
  context: Context,
  parts: { plans: Plans; peers: Peers },
  asked: RunRequest,
): Promise<Checked> {
  if (asked.site !== undefined) {
    throw new Failure('usage_invalid', 'only a failback names the site where the VMs are');
  }
  const record = await parts.plans.find(asked.plan);
  const facts = await parts.plans.facts();
  const { resolved, problems } = surveyPlan(record, facts);
  const refusals = problems
    .filter(({ severity }) => severity !== 'warning')
    .map(({ code, message, hint }) => ({ code, message, hint }));
  const warnings = problems.filter(({ severity }) => severity === 'warning').map(({ message }) => message);
  const add = (failure: Failure): void => void refusals.push(problemOf(failure));
  checkPoints(asked, resolved, add);
  const answering = await sitesThatAnswer(context, parts.peers, resolved);
  const elsewhere =
    asked.kind === 'test'
      ? new Map<string, Failure | string>()
      : await runElsewhere(context, parts.peers, resolved.vms);
  const jobs = await jobsInState(context.db, OPEN_JOBS);
  const found = resolved.vms.flatMap((vm): { vm: ResolvedVm; found: Found }[] => {
    const replica = facts.replicas.find(({ id }) => id === vm.replica_id);
    if (replica === undefined) return [];
    return [
      {
        vm,
        found: withElsewhere(
          checkVm(context, { asked, vm, replica, jobs, isSilent: !answering.has(vm.source_site_id) }),
          elsewhere.get(vm.vm_uuid),
        ),
      },
    ];
  });
  const hopeless = found.filter(({ found: { failures } }) => failures.length > 0);
  for (const { found: each } of found) warnings.push(...each.warnings);
  // A disaster brings up what can be brought up; of the rest it says in advance that it cannot be.
  const isPartial = asked.kind === 'disaster' && hopeless.length < found.length;
  for (const { vm, found: each } of hopeless) {
    for (const failure of each.failures) {
      if (isPartial) warnings.push(`${vm.vm_name} will not come up: ${problemOf(failure).message}`);
      else add(failure);
    }
  }
  if (asked.kind === 'disaster') warnings.push(...silentSites(found, facts.sites));
  const check: RunCheck = {
    plan: resolved.name,
    kind: asked.kind,
    is_possible: refusals.length === 0,
    refusals,
    warnings,
    vms: found.map(({ found: each }) => each.vm),
  };
  const choices = new Map(found.map(({ vm, found: each }) => [vm.vm_uuid, each]));
  return { check, plan: runPlan(context, { asked, resolved, choices }) };
}

function withElsewhere(found: Found, elsewhere: Failure | string | undefined): Found {
  if (elsewhere === undefined) return found;
  if (typeof elsewhere === 'string') return { ...found, warnings: [...found.warnings, elsewhere] };
  return { ...found, failures: [...found.failures, elsewhere] };
}

/** Which of the paired sites' managers answer. */
async function sitesThatAnswer(
  { log }: Context,
  peers: Peers,
  plan: ResolvedPlan,
): Promise<ReadonlySet<string>> {
  const wanted = new Set(plan.vms.map((vm) => vm.source_site_id));
  const answering = new Set<string>();
  const sites = (await peers.list()).filter(({ site_id: id }) => wanted.has(id));
  await Promise.all(
    sites.map(async (peer) => {
      const vmUuid = plan.vms.find((vm) => vm.source_site_id === peer.site_id)!.vm_uuid;
      try {
        const options = {
          method: 'GET',
          path: `/peer/v1/vms/${vmUuid}`,
          timeoutMs: SITE_TIMEOUT_MS,
        } as const;
        await peers.call(peer, options, VmPresence);
        answering.add(peer.site_id);
      } catch (error) {
        const failure = failureIn(error);
        if (failure === undefined) throw error;
        // Whatever it says, it says something.
        if (failure.retry === 'never' && failure.code !== 'certificate_invalid') answering.add(peer.site_id);
        else log.info('run.source_silent', { site: peer.site_name, code: failure.code });
      }
    }),
  );
  return answering;
}

function runPlan(
  { inventory }: Context,
  from: { asked: RunRequest; resolved: ResolvedPlan; choices: ReadonlyMap<string, Found> },
): RunPlan {
  const { asked, resolved, choices } = from;
  const suspend = resolved.suspend.flatMap((name): SuspendedVm[] => {
    const here = inventory.vms().find(({ vm }) => vm.name === name || vm.uuid === name);
    return here === undefined ? [] : [{ hostId: here.agent.id, vmUuid: here.vm.uuid, vmName: here.vm.name }];
  });
  const hostOf = (name: string | null): string | null =>
    inventory.agents().find((agent) => agent.id === name || agent.name === name)?.id ?? null;
  return {
    kind: asked.kind,
    planId: resolved.id,
    planName: resolved.name,
    groups: [...new Set(resolved.vms.map(({ group }) => group))],
    vms: resolved.vms.map((vm) => ({
      vmUuid: vm.vm_uuid,
      vmName: vm.vm_name,
      replicaId: vm.replica_id,
      sourceSiteId: vm.source_site_id,
      priority: vm.priority,
      dependsOn: vm.depends_on,
      start: vm.start,
      shutDown: { mode: vm.shut_down, timeoutMs: vm.shut_down_timeout_ms },
      hostId: hostOf(vm.host),
      networks: vm.networks,
      storagePath: vm.storage_path,
      health: vm.health,
      before: vm.before,
      after: vm.after,
      customize:
        vm.addresses.length === 0 && vm.host_name === null
          ? null
          : {
              by: vm.customize_by,
              hostName: vm.host_name,
              addresses: vm.addresses,
              onFailure: vm.customize_on_failure,
            },
      point: choices.get(vm.vm_uuid)?.choice ?? { from: 'newest' },
      isSourceSilent: choices.get(vm.vm_uuid)?.vm.source === 'silent',
    })),
    before: resolved.before,
    after: resolved.after,
    priorities: resolved.priorities,
    suspend,
    test: { networks: resolved.test.networks, router: resolved.test.router },
  };
}

function checkPoints(asked: RunRequest, plan: ResolvedPlan, add: (failure: Failure) => void): void {
  const names = Object.keys(asked.points ?? {});
  if (isPlanned(asked.kind) && (names.length > 0 || asked.at_ms !== undefined)) {
    add(
      new Failure('usage_invalid', 'a planned migration takes the last state, not an earlier point', {
        hint: 'For an earlier one: antipode plan run, or antipode plan test.',
      }),
    );
  }
  for (const name of names) {
    if (plan.vms.some((vm) => vm.vm_name === name || vm.vm_uuid === name)) continue;
    add(
      new Failure('not_found', `plan ${plan.name} has no VM "${name}"`, {
        hint: `Its VMs: ${plan.vms
          .map((vm) => vm.vm_name)
          .join(', ')
          .slice(0, 1000)}`,
      }),
    );
  }
}

function silentSites(
  found: readonly { vm: ResolvedVm; found: Found }[],
  sites: readonly { site_id: string; site_name: string }[],
): string[] {
  const silentIds = new Set(
    found.filter((each) => each.found.vm.source === 'silent').map(({ vm }) => vm.source_site_id),
  );
  return [...silentIds].map((id) => {
    const name = sites.find(({ site_id: site }) => site === id)?.site_name ?? id;
    return `site ${name} does not answer: nothing is shut down there, and its copies yield when it is back`;
  });
}

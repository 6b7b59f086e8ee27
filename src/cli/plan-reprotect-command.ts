/** plan reprotect: protecting all VMs that a plan's last run brought up here back to where they came from. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { RunReprotection, RunReprotectionVm } from '#/api/reprotections.ts';
import { Failure, failureIn, isFailureCode } from '#/lib/failure.ts';
import {
  examples,
  interrupted,
  managerOf,
  print,
  printJson,
  sameSite,
  say,
  withManager,
  type CommonOptions,
} from './command.ts';
import { duration } from './duration.ts';
import type { ManagerApi } from './manager-api.ts';
import { printable, table } from './table.ts';

const LOOK_EVERY_MS = 1000;
/** A site that has not answered for so long is not waited for: the manager asks it again until it does. */
const PATIENCE_MS = 60_000;

export function registerPlanReprotectCommand(plan: Command): void {
  const command = withManager(
    plan
      .command('reprotect')
      .description(
        "protect every VM that a plan's last run brought up to the site that it came from, in deltas against its " +
          'old copy there. A copy that is paused there is ended for it: its memory is lost, its disks become a ' +
          'recovery point',
      )
      .argument('<plan>', "the plan's name, which means its newest run that is no test; or that run's id")
      .option('--no-wait', 'do not wait until the other site has made its old copies recovery points'),
  ).action(async (which: string, options: CommonOptions & { wait: boolean }) => {
    const api = await managerOf(options);
    const isQuiet = options.json === true;
    const path = (id: string): string => `/runs/${encodeURIComponent(id)}/reprotection`;
    let view = await api.post<RunReprotection>(path(which));
    if (options.wait) view = await follow(api, view, { path: path(view.run_id), isQuiet });
    if (isQuiet) printJson(view);
    else print(words(view));
    throwIfUnprotected(view);
    if (!isQuiet) say(`follow it with: antipode status --watch${sameSite(options)}`);
  });
  examples(command, ['antipode plan reprotect all', 'antipode plan reprotect all --no-wait --json']);
}

/** How those who came home are protected, once that does not change any more. */
export async function showProtection(api: ManagerApi, runId: string): Promise<void> {
  const path = `/runs/${runId}/reprotection`;
  print(words(await follow(api, await api.get<RunReprotection>(path), { path, isQuiet: false })));
}

/** Until nothing moves any more: all are protected or refused, or the other site is away. */
async function follow(
  api: ManagerApi,
  first: RunReprotection,
  { path, isQuiet }: { path: string; isQuiet: boolean },
): Promise<RunReprotection> {
  const signal = interrupted();
  const told = new Set<string>();
  const tell = (vm: RunReprotectionVm): void => {
    const text = `  ${vm.vm_name}: ${progress(vm)}`;
    if (told.has(text)) return;
    told.add(text);
    if (!isQuiet) say(printable(text));
  };
  let view = first;
  let movedMs = Date.now();
  for (;;) {
    for (const vm of view.vms) tell(vm);
    const isMoving = view.vms.some(({ state }) => state === 'requested' || state === 'seeding');
    const isSeeding = view.vms.some(({ state }) => state === 'seeding');
    if (!isMoving || (!isSeeding && Date.now() - movedMs > PATIENCE_MS)) return view;
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => {});
    if (signal.aborted) {
      throw new Failure('cancelled', 'no longer waiting for the other site, which goes on', {
        hint: 'Look at it with: antipode status',
      });
    }
    try {
      const next = await api.get<RunReprotection>(path);
      if (statesOf(next) !== statesOf(view)) movedMs = Date.now();
      view = next;
    } catch (error) {
      // A manager that starts again goes on.
      if (failureIn(error)?.retry !== 'reconnect' || Date.now() - movedMs > PATIENCE_MS) throw error;
    }
  }
}

function statesOf({ vms }: RunReprotection): string {
  return vms.map(({ state }) => state).join();
}

function progress({ state, site_name: site, failure, rpo_ms: rpoMs }: RunReprotectionVm): string {
  switch (state) {
    case 'active':
      return `is protected to ${site} with an RPO of ${duration(rpoMs ?? 0)}`;
    case 'seeding':
      return `${site} makes its old copy a recovery point first`;
    case 'requested':
      return failure === null ? `${site} is asked` : `${site} is asked again: ${failure.message}`;
    case 'unprotected':
      return failure === null ? 'is not protected' : `is not protected: ${failure.message}`;
    case 'recovering':
      return 'is left out: its recovery has not come to its end';
    case 'not_here':
      return 'is left out: it does not run here';
  }
}

function words({ vms }: RunReprotection): string {
  const rows = vms.map((vm) => [
    vm.vm_name,
    vm.site_name,
    vm.rpo_ms === null ? '' : duration(vm.rpo_ms),
    vm.state.replaceAll('_', ' '),
    vm.failure?.message ?? '',
  ]);
  return table(['VM', 'TO', 'RPO', 'STATE', ''], rows, 'the run has no VM');
}

function throwIfUnprotected({ vms }: RunReprotection): void {
  const bad = vms.filter(({ state }) => state === 'unprotected' || state === 'recovering');
  if (bad.length === 0) return;
  const { vm_name: name, failure } = bad[0]!;
  const rest = bad.length === 1 ? '' : `, and ${bad.length - 1} more`;
  throw new Failure(
    failure !== null && isFailureCode(failure.code) ? failure.code : 'conflict',
    `VM ${name} is not protected${rest}${failure === null ? '' : `: ${failure.message}`}`,
    { hint: failure?.hint ?? 'See why with: antipode events. Then ask again: what is protected stays so.' },
  );
}

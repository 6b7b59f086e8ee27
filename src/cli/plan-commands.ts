/** plan: recovery plans, as they are kept and as files. */
import type { Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { PlanDetails, SavedPlan } from '#/api/plan-files.ts';
import type { PlanView } from '#/api/plans.ts';
import { Failure } from '#/lib/failure.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { time } from './duration.ts';
import { registerPlanAddressCommands } from './plan-address-commands.ts';
import { registerPlanFileCommands } from './plan-file-commands.ts';
import { counted, problemText } from './plan-problems.ts';
import { registerReadiness } from './plan-readiness.ts';
import { registerPlanRunCommands } from './run-commands.ts';
import { table } from './table.ts';

export function registerPlanCommands(program: Command): void {
  const plan = program
    .command('plan')
    .description(
      'recovery plans of this site: which VMs come up, in which order, and what is done around them',
    );
  registerLooks(plan);
  registerCreate(plan);
  registerReadiness(plan);
  registerPlanFileCommands(plan);
  registerPlanAddressCommands(plan);
  registerPlanRunCommands(plan);
  const remove = withManager(
    plan
      .command('delete')
      .description('delete a plan of which no run is under way; groups, VMs and replicas stay')
      .argument('<plan>', "the plan's name or id"),
  ).action(async (name: string, options: CommonOptions) => {
    const api = await managerOf(options);
    await api.delete(`/plans/${encodeURIComponent(name)}`);
    print(options.json === true ? '{}' : `plan ${name} is deleted`);
  });
  examples(remove, ['antipode plan delete all']);
}

function registerLooks(plan: Command): void {
  const list = withManager(plan.command('list').description('the plans of this site')).action(
    async (options: CommonOptions) => {
      const api = await managerOf(options);
      const page = await api.get<Page<PlanView>>('/plans');
      if (options.json === true) return printJson(page);
      const rows = page.items.map(({ document, revision, updated_ms: updatedMs }) => [
        document.name,
        document.groups.join(', '),
        String(revision),
        time(updatedMs),
        document.description ?? '',
      ]);
      print(table(['PLAN', 'GROUPS', 'REVISION', 'CHANGED', ''], rows, 'no plan yet'));
    },
  );
  examples(list, ['antipode plan list']);
  const show = withManager(
    plan
      .command('show')
      .description('the VMs of a plan as a run would take them now')
      .argument('<plan>', "the plan's name or id"),
  ).action(async (name: string, options: CommonOptions) => {
    const details = await detailsOf(name, options);
    if (options.json === true) return printJson(details);
    showPlan(details);
  });
  examples(show, ['antipode plan show all']);
  const check = withManager(
    plan
      .command('check')
      .description('whether a plan can be run as things are now; ends with 4 when it cannot')
      .argument('<plan>', "the plan's name or id"),
  ).action(async (name: string, options: CommonOptions) => {
    const details = await detailsOf(name, options);
    const { problems } = details;
    if (options.json === true) printJson(details);
    else for (const problem of problems) print(problemText(problem));
    const grave = problems.filter(({ severity }) => severity !== 'warning');
    if (grave.length > 0) {
      throw new Failure('conflict', `plan ${name} cannot be run: ${counted(grave.length, 'problem')}`, {
        hint: 'Nothing was changed.',
      });
    }
    if (options.json !== true) print(`plan ${name} can be run, as far as its documents go`);
  });
  examples(check, ['antipode plan check all']);
}

function registerCreate(plan: Command): void {
  const create = withManager(
    plan
      .command('create')
      .description(
        'make a plan of groups, with the defaults for each VM; a file has it all: antipode plan import',
      )
      .argument('<plan>', 'its name')
      .requiredOption('--group <group...>', 'the groups whose VMs it recovers')
      .option('--description <text>', 'what it is for'),
  ).action(async (name: string, options: CommonOptions & { group: string[]; description?: string }) => {
    const api = await managerOf(options);
    const { description, group: groups } = options;
    const saved = await api.post<SavedPlan>('/plans', {
      name,
      groups,
      ...(description === undefined ? {} : { description }),
    });
    if (options.json === true) return printJson(saved);
    for (const problem of saved.problems) say(problemText(problem));
    print(`plan ${name} recovers the VMs of ${groups.join(', ')}`);
  });
  examples(create, [
    'antipode plan create all --group shop',
    'antipode plan create all --group shop front && antipode plan export all > all.yaml',
  ]);
}

async function detailsOf(name: string, options: CommonOptions): Promise<PlanDetails> {
  const api = await managerOf(options);
  return api.get<PlanDetails>(`/plans/${encodeURIComponent(name)}/details`);
}

function showPlan({ plan, vms, problems }: PlanDetails): void {
  const { document, revision, updated_ms: updatedMs } = plan;
  print(`plan ${document.name}, revision ${revision} of ${time(updatedMs)}`);
  if (document.description !== undefined) print(document.description);
  const rows = vms.map((vm) => [
    String(vm.priority),
    vm.vm_name,
    vm.group,
    vm.start === 'off' ? 'stays off' : 'starts',
    vm.depends_on.join(', '),
    Object.entries(vm.networks)
      .map(([there, here]) => `${there} -> ${here}`)
      .join(', '),
    vm.host ?? '',
    vm.storage_path ?? '',
  ]);
  const titles = ['PRIORITY', 'VM', 'GROUP', 'START', 'AFTER', 'NETWORKS', 'HOST', 'STORAGE'];
  print(table(titles, rows, 'it has no VM'));
  for (const problem of problems) print(problemText(problem));
}

/** plan readiness: whether a plan would come up now, what it would lose and take, and when that was last proven. */
import type { Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { ReadinessFinding, ReadinessView } from '#/api/readiness.ts';
import { Failure } from '#/lib/failure.ts';
import { examples, managerOf, print, printJson, withManager, type CommonOptions } from './command.ts';
import { duration, time } from './duration.ts';
import { counted } from './plan-problems.ts';
import { table } from './table.ts';

export function registerReadiness(plan: Command): void {
  const readiness = withManager(
    plan
      .command('readiness')
      .description(
        'whether a plan would come up now; ends with 4 when it would not. Without a plan, all of them',
      )
      .argument('[plan]', "the plan's name or id"),
  ).action(async (name: string | undefined, options: CommonOptions) => {
    const api = await managerOf(options);
    if (name === undefined) {
      const page = await api.get<Page<ReadinessView>>('/readiness');
      if (options.json === true) printJson(page);
      else showAll(page.items);
      return refuse(page.items);
    }
    const view = await api.get<ReadinessView>(`/plans/${encodeURIComponent(name)}/readiness`);
    if (options.json === true) printJson(view);
    else show(view);
    refuse([view]);
  });
  examples(readiness, [
    'antipode plan readiness',
    'antipode plan readiness all',
    'antipode plan readiness all --json',
  ]);
}

function refuse(views: readonly ReadinessView[]): void {
  const unready = views.filter((view) => !view.is_ready).map(({ plan }) => plan);
  if (unready.length === 0) return;
  throw new Failure('conflict', `not ready: ${unready.join(', ')}`, {
    hint: 'Nothing was changed. See what is in the way with: antipode plan readiness PLAN',
  });
}

function showAll(views: readonly ReadinessView[]): void {
  const rows = views.map((view) => {
    const count = (severity: string): number =>
      view.findings.filter((finding) => finding.severity === severity).length;
    return [
      view.plan,
      view.is_ready ? 'ready' : 'NOT READY',
      `${counted(count('error'), 'error')}, ${counted(count('warning'), 'warning')}`,
      maybe(view.predicted_rpo_ms, duration),
      maybe(view.predicted_rto_ms, duration),
      maybe(view.proven_ms, time, 'never'),
    ];
  });
  print(table(['PLAN', '', 'FOUND', 'WOULD LOSE', 'WOULD TAKE', 'PROVEN'], rows, 'no plan yet'));
}

function show(view: ReadinessView): void {
  print(`plan ${view.plan} is ${view.is_ready ? 'ready' : 'NOT READY'}`);
  const rows = view.vms.map((vm) => [
    String(vm.priority),
    vm.vm_name,
    vm.host_name ?? '-',
    maybe(vm.age_ms, duration),
    duration(vm.rpo_ms),
    maybe(vm.predicted_rpo_ms, duration),
    maybe(vm.predicted_rto_ms, duration),
    maybe(vm.proven?.at_ms ?? null, time, 'never'),
    vm.proven === null ? '' : `lost ${maybe(vm.proven.rpo_ms, duration)}, took ${duration(vm.proven.rto_ms)}`,
  ]);
  const titles = ['PRIORITY', 'VM', 'HOST', 'AGE', 'RPO', 'WOULD LOSE', 'WOULD TAKE', 'PROVEN', 'LAST TEST'];
  print(table(titles, rows, 'no VM'));
  for (const finding of view.findings) print(findingText(finding));
}

function findingText({ severity, text, hint }: ReadinessFinding): string {
  return `${severity}: ${text}${hint === null ? '' : `\n  ${hint}`}`;
}

function maybe(value: number | null, words: (value: number) => string, otherwise = '-'): string {
  return value === null ? otherwise : words(value);
}

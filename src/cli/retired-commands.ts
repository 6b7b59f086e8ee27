/** retired: old copies that made room for a VM which came back; listing and removing them. */
import type { Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { RetiredView } from '#/api/retired.ts';
import { examples, managerOf, print, printJson, withManager, type CommonOptions } from './command.ts';
import { bytes, time } from './duration.ts';
import { table } from './table.ts';

export function registerRetiredCommands(program: Command): void {
  const retired = program
    .command('retired')
    .description('old copies of VMs that came back to this site: kept until a person removes them');
  const list = withManager(
    retired.command('list').description('the old copies that hosts of this site keep'),
  ).action(async (options: CommonOptions) => {
    const api = await managerOf(options);
    const page = await api.get<Page<RetiredView>>('/retired');
    if (options.json === true) return printJson(page);
    const titles = ['ID', 'VM', 'HOST', 'RETIRED', 'TAKES', 'DISKS'];
    print(table(titles, page.items.map(row), 'no old copy is kept here'));
  });
  examples(list, ['antipode retired list', 'antipode retired list --json']);
  const remove = withManager(
    retired
      .command('remove')
      .description('remove an old copy for good: its disks, its firmware state, its definition')
      .argument('<id>', 'as `antipode retired list` names it'),
  ).action(async (id: string, options: CommonOptions) => {
    const api = await managerOf(options);
    const view = await api.delete<RetiredView>(`/retired/${encodeURIComponent(id)}`);
    if (options.json === true) return printJson(view);
    print(`the old copy of ${view.vm_name} on ${view.host_name} is being removed`);
  });
  examples(remove, ['antipode retired remove job-0c4f1a2b3c4d-recover']);
}

function row(view: RetiredView): string[] {
  const total = view.disks.reduce((sum, disk) => sum + disk.bytes, 0);
  const state = view.is_removing
    ? ' (being removed)'
    : view.failure === null
      ? ''
      : ` (not removed: ${view.failure.message})`;
  const paths = view.disks.map(({ path }) => path).join(', ');
  return [view.id, view.vm_name, view.host_name, time(view.retired_ms), bytes(total), paths + state];
}

/** group: VMs that are protected and recovered together. */
import type { Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { GroupView } from '#/api/plans.ts';
import { examples, managerOf, print, printJson, withManager, type CommonOptions } from './command.ts';
import { table } from './table.ts';

export function registerGroupCommands(program: Command): void {
  const group = program
    .command('group')
    .description('protection groups of this site: VMs of a paired site that are recovered together');
  registerLooks(group);
  registerCreate(group);
  registerMembers(group);
  const remove = withManager(
    group
      .command('delete')
      .description('delete a group that is in no plan; its VMs stay protected')
      .argument('<group>', "the group's name or id"),
  ).action(async (name: string, options: CommonOptions) => {
    const api = await managerOf(options);
    await api.delete(`/groups/${encodeURIComponent(name)}`);
    print(options.json === true ? '{}' : `group ${name} is deleted`);
  });
  examples(remove, ['antipode group delete shop']);
}

function registerLooks(group: Command): void {
  const list = withManager(group.command('list').description('the groups of this site')).action(
    async (options: CommonOptions) => {
      const api = await managerOf(options);
      const page = await api.get<Page<GroupView>>('/groups');
      if (options.json === true) return printJson(page);
      const rows = page.items.map(({ document, plans }) => [
        document.name,
        document.site,
        String(document.vms.length),
        plans.join(', '),
      ]);
      print(table(['GROUP', 'OF SITE', 'VMS', 'IN PLANS'], rows, 'no group yet'));
    },
  );
  examples(list, ['antipode group list']);
  const show = withManager(
    group.command('show').description('one group with its VMs').argument('<group>', "the group's name or id"),
  ).action(async (name: string, options: CommonOptions) => {
    const api = await managerOf(options);
    showGroup(await api.get<GroupView>(`/groups/${encodeURIComponent(name)}`), options);
  });
  examples(show, ['antipode group show shop']);
}

function registerCreate(group: Command): void {
  const create = withManager(
    group
      .command('create')
      .description('make a group of VMs that have replicas here')
      .argument('<group>', 'its name')
      .argument('<vm...>', 'names or UUIDs of its VMs')
      .requiredOption('--of <site>', 'the paired site that protects them')
      .option('--description <text>', 'what it is for'),
  ).action(
    async (name: string, vms: string[], options: CommonOptions & { of: string; description?: string }) => {
      const api = await managerOf(options);
      const { description } = options;
      const body = { name, site: options.of, vms, ...(description === undefined ? {} : { description }) };
      showGroup(await api.post<GroupView>('/groups', body), options);
    },
  );
  examples(create, ['antipode group create shop web app db --of west']);
}

function registerMembers(group: Command): void {
  for (const [word, what] of [
    ['add', 'take VMs into a group'],
    ['remove', 'take VMs out of a group; they stay protected'],
  ] as const) {
    const change = withManager(
      group
        .command(word)
        .description(what)
        .argument('<group>', "the group's name or id")
        .argument('<vm...>', 'names or UUIDs of VMs'),
    ).action(async (name: string, vms: string[], options: CommonOptions) => {
      const api = await managerOf(options);
      const view = await api.post<GroupView>(`/groups/${encodeURIComponent(name)}/vms`, { [word]: vms });
      showGroup(view, options);
    });
    examples(change, [`antipode group ${word} shop cache`]);
  }
}

function showGroup(view: GroupView, options: CommonOptions): void {
  if (options.json === true) return printJson(view);
  const { document, plans } = view;
  print(
    `group ${document.name} of site ${document.site}${plans.length === 0 ? '' : `, in plan ${plans.join(', ')}`}`,
  );
  if (document.description !== undefined) print(document.description);
  for (const vm of document.vms) print(`  ${vm}`);
}

/** mapping: what networks, directories and hosts of a paired site become here. */
import { Argument, type Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { MappingView, SavedMapping } from '#/api/plan-files.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { table } from './table.ts';

type Of = CommonOptions & { of: string };

export function registerMappingCommands(program: Command): void {
  const mapping = program
    .command('mapping')
    .description('what networks, directories of disks and hosts of a paired site become here in a recovery');
  const list = withManager(mapping.command('list').description('the mappings of this site')).action(
    async (options: CommonOptions) => {
      const api = await managerOf(options);
      const page = await api.get<Page<MappingView>>('/mappings');
      if (options.json === true) return printJson(page);
      const rows = page.items.map((one) => [one.kind, one.site_name, one.there, one.here]);
      print(table(['KIND', 'OF SITE', 'THERE', 'HERE'], rows, 'nothing is mapped yet'));
    },
  );
  examples(list, ['antipode mapping list']);
  registerAdd(mapping);
  registerRemove(mapping);
}

const kind = (): Argument => new Argument('<kind>', 'of what').choices(['network', 'storage', 'host']);

function registerAdd(mapping: Command): void {
  const add = withManager(
    mapping
      .command('add')
      .description('map something of a paired site to something here; the names are checked at both sites')
      .addArgument(kind())
      .argument('<there>', "its name at that site; of storage, the directory of the VMs' disks")
      .argument('<here>', 'what it becomes at this site')
      .requiredOption('--of <site>', 'the paired site that it is at')
      .option('--both', 'make the reverse mapping at that site too'),
  ).action(async (of: string, there: string, here: string, options: Of & { both?: boolean }) => {
    const api = await managerOf(options);
    const body = {
      kind: of,
      site: options.of,
      there,
      here,
      ...(options.both === true ? { both: true } : {}),
    };
    const saved = await api.post<SavedMapping>('/mappings', body);
    if (options.json === true) return printJson(saved);
    for (const notice of saved.notices) say(notice);
    const { mapping: made } = saved;
    print(`${made.kind} ${made.there} of ${made.site_name} becomes ${made.here} here`);
    if (options.both === true) print(`and ${made.here} becomes ${made.there} there`);
  });
  examples(add, [
    'antipode mapping add network lan lan-b --of west --both',
    'antipode mapping add storage /var/lib/libvirt/images /srv/vms --of west',
    'antipode mapping add host west-1 east-1 --of west',
  ]);
}

function registerRemove(mapping: Command): void {
  const remove = withManager(
    mapping
      .command('remove')
      .description('take a mapping back')
      .addArgument(kind())
      .argument('<there>', 'its name at that site')
      .requiredOption('--of <site>', 'the paired site that it is at'),
  ).action(async (of: string, there: string, options: Of) => {
    const api = await managerOf(options);
    const query = new URLSearchParams({ site: options.of, kind: of, there });
    await api.delete(`/mappings?${query.toString()}`);
    print(options.json === true ? '{}' : `${of} ${there} of ${options.of} is mapped to nothing any more`);
  });
  examples(remove, ['antipode mapping remove network lan --of west']);
}

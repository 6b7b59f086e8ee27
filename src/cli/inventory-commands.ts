/** vms, hosts, sites, replication-servers: what there is. */
import type { Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { Host, ReplicationServer, Site, Vm } from '#/api/inventory.ts';
import { examples, managerOf, print, printJson, withManager, type CommonOptions } from './command.ts';
import { bytes, duration } from './duration.ts';
import { table } from './table.ts';

export function registerInventoryCommands(program: Command): void {
  list<Vm>(program, {
    name: 'vms',
    about: 'VMs of the site, where they are protected to, and why some cannot be',
    titles: ['VM', 'STATE', 'HOST', 'MEMORY', 'DISKS', 'PROTECTED TO', 'CANNOT BE PROTECTED BECAUSE'],
    row: (vm) => [
      vm.name,
      vm.fence === null ? vm.state : `${vm.state}, ${fenced(vm.fence)}`,
      vm.host_name,
      bytes(vm.memory_bytes),
      vm.disks.map((disk) => `${disk.key} ${bytes(disk.bytes)}`).join(', '),
      vm.protected_to.join(', '),
      reasons(vm),
    ],
  });
  list<Host>(program, {
    name: 'hosts',
    about: 'KVM hosts of the site',
    titles: ['HOST', 'ID', 'LAST REPORT', 'LIBVIRT', 'START HOOK', 'VMS', 'MEMORY', 'FREE STORAGE'],
    row: (host) => [
      host.name,
      host.id,
      reportAge(host.report_ms, host.is_alive),
      host.libvirt_failure === null ? (host.libvirt_version ?? '') : `down: ${host.libvirt_failure.message}`,
      startHook(host),
      String(host.vm_count),
      host.memory_bytes === null ? '' : bytes(host.memory_bytes),
      host.storage_free_bytes === null ? '' : bytes(host.storage_free_bytes),
    ],
    remove: 'hosts',
  });
  list<ReplicationServer>(program, {
    name: 'replication-servers',
    about: 'replication servers of the site',
    titles: ['SERVER', 'ID', 'LAST REPORT', 'ENDPOINT', 'REPLICAS', 'FREE', 'STORE'],
    row: (server) => [
      server.name,
      server.id,
      reportAge(server.report_ms, server.is_alive),
      server.endpoint ?? '',
      String(server.replica_count),
      server.store_free_bytes === null ? '' : bytes(server.store_free_bytes),
      server.store_path ?? '',
    ],
    remove: 'replication-servers',
  });
  list<Site>(program, {
    name: 'sites',
    about: 'the site and those it is paired with',
    titles: ['SITE', 'ID', 'ADDRESS', 'MANAGER'],
    row: (site) => [site.name, site.id, site.address, site.is_self ? 'this one' : reachable(site)],
  });
}

function list<Item>(
  program: Command,
  kind: {
    name: string;
    about: string;
    titles: readonly string[];
    row: (item: Item) => string[];
    remove?: string;
  },
): void {
  const command = withManager(program.command(kind.name).description(kind.about));
  if (kind.remove !== undefined) {
    command.option('--remove <id>', 'remove one: its certificate is worth nothing from then on');
  }
  command.action(async (options: CommonOptions & { remove?: string }) => {
    const api = await managerOf(options);
    if (options.remove !== undefined) {
      await api.delete(`/${kind.name}/${encodeURIComponent(options.remove)}`);
      print(options.json === true ? '{}' : `removed ${options.remove}`);
      return;
    }
    const page = await api.get<Page<Item>>(`/${kind.name}`);
    if (options.json === true) printJson(page);
    else print(table(kind.titles, page.items.map(kind.row), `no ${kind.name} yet`));
  });
  examples(command, [`antipode ${kind.name}`, `antipode ${kind.name} --json`]);
}

function fenced({ epoch, site_name: site, state }: NonNullable<Vm['fence']>): string {
  const runs = `runs at ${site} since epoch ${epoch}`;
  return state === 'failing' ? `MUST NOT RUN: it ${runs}` : `has yielded: ${runs}`;
}

function startHook({ start_hook: hook }: Host): string {
  if (hook === null || hook.checked_ms === null) return 'not known';
  return hook.is_working ? 'works' : `IDLE: ${hook.failure?.message ?? 'for an unknown reason'}`;
}

function reportAge(reportMs: number | null, isAlive: boolean): string {
  if (reportMs === null) return 'never';
  const age = `${duration(Math.max(0, Date.now() - reportMs))} ago`;
  return isAlive ? age : `${age}: silent`;
}

function reasons(vm: Vm): string {
  const ofDisks = vm.disks.flatMap((disk) => (disk.refusal === null ? [] : [`${disk.key}: ${disk.refusal}`]));
  return [...vm.refusals, ...ofDisks].join('; ');
}

function reachable(site: Site): string {
  if (site.is_reachable === null) return 'not asked yet';
  return site.is_reachable ? 'answers' : `does not answer: ${site.failure?.message ?? ''}`;
}

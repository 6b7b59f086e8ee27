/** protect, unprotect, points. */
import { Option, type Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { ProtectionRequest, ProtectionView } from '#/api/protections.ts';
import type { PointView } from '#/api/replicas.ts';
import {
  examples,
  managerOf,
  print,
  printJson,
  sameSite,
  say,
  withManager,
  type CommonOptions,
} from './command.ts';
import { bytes, countIn, duration, parseDuration, time } from './duration.ts';
import { managerWithReplica } from './replica-site.ts';
import { table } from './table.ts';

type ProtectOptions = CommonOptions & {
  to: string;
  rpo: string;
  disk?: string[];
  addedDisks?: 'replicate' | 'report';
  keepAll?: string;
};

export function registerProtectCommands(program: Command): void {
  registerProtect(program);
  registerUnprotect(program);
  registerPoints(program);
}

function registerProtect(program: Command): void {
  const command = withManager(
    program
      .command('protect')
      .description('keep a replica of a VM at another site, never older than the RPO')
      .argument('<vm>', 'name or UUID')
      .requiredOption('--to <site>', 'the recovery site, paired with this one')
      .option('--rpo <duration>', 'the age its newest recovery point must never exceed', '15m')
      .option('--disk <key...>', 'only these disks, such as vda; all by default')
      .addOption(
        new Option('--added-disks <policy>', 'a disk that is added later: replicate it, or report it only')
          .choices(['report', 'replicate'])
          .default('report'),
      )
      .option('--keep-all <duration>', 'keep every point for so long, then one an hour for a day'),
  ).action(async (vm: string, options: ProtectOptions) => {
    const api = await managerOf(options);
    const request: ProtectionRequest = {
      vm,
      site: options.to,
      rpo_ms: parseDuration(options.rpo),
      ...(options.disk === undefined ? {} : { disks: options.disk }),
      ...(options.addedDisks === undefined ? {} : { added_disks: options.addedDisks }),
      ...(options.keepAll === undefined
        ? {}
        : {
            retention: {
              keep_all_ms: parseDuration(options.keepAll),
              tiers: [{ every_ms: 3_600_000, for_ms: 86_400_000 }],
            },
          }),
    };
    const view = await api.post<ProtectionView>('/protections', request);
    if (options.json === true) return printJson(view);
    print(`${view.vm_name} is protected to ${view.site_name} with an RPO of ${duration(view.rpo_ms)}`);
    if (view.state === 'requested') {
      say(`${view.site_name} went away before it confirmed; it is asked again until it does`);
    }
    say(`follow the first copy with: antipode status --watch${sameSite(options)}`);
  });
  examples(command, [
    'antipode protect ledger --to east --rpo 5s',
    'antipode protect db1 --to east --rpo 15m --disk vda vdb',
    'antipode protect ledger --to east --rpo 5s --site west     # in a lab: ask the manager of west',
  ]);
}

function registerUnprotect(program: Command): void {
  const command = withManager(
    program
      .command('unprotect')
      .description('stop replicating a VM; the replica and its points are kept')
      .argument('<vm>', 'name or UUID')
      .option('--to <site>', 'only the protection to that site')
      .option('--delete-replica', 'delete the replica and its recovery points as well'),
  ).action(async (vm: string, options: CommonOptions & { to?: string; deleteReplica?: boolean }) => {
    const api = await managerOf(options);
    const query = new URLSearchParams({ delete_replica: String(options.deleteReplica === true) });
    if (options.to !== undefined) query.set('site', options.to);
    const view = await api.delete<ProtectionView>(
      `/protections/${encodeURIComponent(vm)}?${query.toString()}`,
    );
    if (options.json === true) return printJson(view);
    print(`${view.vm_name} is no longer protected to ${view.site_name}`);
    if (view.failure !== null) say(`${view.site_name} does not know yet, and is told as soon as it answers`);
  });
  examples(command, ['antipode unprotect ledger', 'antipode unprotect ledger --delete-replica']);
}

function registerPoints(program: Command): void {
  const command = withManager(
    program
      .command('points')
      .description('the recovery points of a VM, newest first; ask at the recovery site')
      .argument('<vm>', "the VM's name or UUID, or the replica's id")
      .option('--limit <count>', 'at most so many', '20'),
  ).action(async (vm: string, options: CommonOptions & { limit: string }) => {
    const limit = countIn('--limit', options.limit);
    const api = await managerWithReplica(options, vm);
    const query = new URLSearchParams({ replica: vm, limit: String(limit) });
    const page = await api.get<Page<PointView>>(`/points?${query.toString()}`);
    if (options.json === true) return printJson(page);
    const now = Date.now();
    const rows = page.items.map((point) => [
      String(point.sequence),
      time(point.moment_ms),
      duration(Math.max(0, now - point.moment_ms)),
      point.consistency,
      bytes(point.delta_bytes),
      point.bookmark ?? '',
    ]);
    print(
      table(['POINT', 'MOMENT', 'AGE', 'CONSISTENCY', 'CHANGED', 'BOOKMARK'], rows, 'no recovery point yet'),
    );
    const left = page.total - page.items.length;
    if (left > 0) say(`and ${left} more; show them with --limit ${page.total}`);
  });
  examples(command, [
    'antipode points ledger',
    'antipode points ledger --limit 200 --json',
    'antipode recover ledger --point 17 --test      # try one of them',
  ]);
}

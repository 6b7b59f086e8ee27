/** set: how a VM is protected from now on. What it costs is said first. */
import { Option, type Command } from 'commander';
import type { Retention } from '#/api/common.ts';
import type { ProtectionChange, ProtectionChangeCheck, ProtectionView } from '#/api/protections.ts';
import { Failure } from '#/lib/failure.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { parseDuration } from './duration.ts';

type SetOptions = CommonOptions & {
  to?: string;
  rpo?: string;
  disk?: string[];
  allDisks?: boolean;
  addedDisks?: 'replicate' | 'report';
  keepAll?: string;
  tier?: string[];
  scratch?: string;
  dryRun?: boolean;
  yes?: boolean;
};

export function registerSetCommand(program: Command): void {
  const command = withManager(
    program
      .command('set')
      .description('change how a VM is protected, at once and without another first copy')
      .argument('<vm>', 'name or UUID; at the site that protects it')
      .option('--to <site>', 'its protection to that site, when it has several')
      .option('--rpo <duration>', 'the age its newest recovery point must never exceed')
      .option('--keep-all <duration>', 'keep every point for so long; 0s: only the newest')
      .option(
        '--tier <every:for...>',
        'and then one point every so long, for so long: 1h:1d 1d:30d; "none": no more',
      )
      .option('--disk <key...>', 'replicate these disks, such as vda, and no others')
      .option('--all-disks', 'replicate all disks that it has now')
      .addOption(
        new Option(
          '--added-disks <policy>',
          'a disk that is added later: replicate it, or report it only',
        ).choices(['report', 'replicate']),
      )
      .option('--scratch <size>', 'most that a cycle may take on the host: 512M, 2G')
      .option('--dry-run', 'say what it would come to, and change nothing')
      .option('--yes', 'also when recovery points go for ever'),
  ).action(run);
  examples(command, [
    'antipode set ledger --rpo 30s',
    'antipode set ledger --keep-all 4h --tier 1h:3d 1d:14d --dry-run',
    'antipode set ledger --keep-all 10m --tier none --yes',
    'antipode set db1 --disk vda vdb --reason "the log disk moved"',
  ]);
}

async function run(vm: string, options: SetOptions): Promise<void> {
  const api = await managerOf(options);
  const path = `/protections/${encodeURIComponent(vm)}`;
  const query = options.to === undefined ? '' : `?${new URLSearchParams({ site: options.to }).toString()}`;
  const before = await api.get<ProtectionView>(path.concat(query));
  const change: ProtectionChange = { revision: before.revision, ...changeOf(options, before.retention) };
  const check = await api.post<ProtectionChangeCheck>(`${path}/check${query}`, change);
  if (options.dryRun === true && options.json === true) return printJson(check);
  if (options.json !== true) tell(check);
  if (options.dryRun === true) return;
  const lost = check.points_lost?.count ?? 0;
  if (lost > 0 && options.yes !== true) {
    throw new Failure('usage_invalid', `${lost} recovery points would go for ever`, {
      hint: 'If that is meant, say so with: --yes',
    });
  }
  const view = await api.post<ProtectionView>(path.concat(query), change);
  if (options.json === true) return printJson(view);
  if (view.revision === before.revision) return print(`${view.vm_name} is protected so already`);
  print(`${view.vm_name} is protected so, as of now`);
  if (view.told_revision < view.revision) {
    say(`${view.site_name} does not know yet, and is told as soon as it answers`);
  }
}

function tell({ changes, costs }: ProtectionChangeCheck): void {
  for (const line of changes) print(line);
  for (const line of costs) say(`  ${line}`);
}

function changeOf(options: SetOptions, retention: Retention): Omit<ProtectionChange, 'revision'> {
  if (options.disk !== undefined && options.allDisks === true) {
    throw new Failure('usage_invalid', '--disk and --all-disks exclude each other', {
      hint: 'Name the disks, or take all of them.',
    });
  }
  const disks = options.allDisks === true ? [] : options.disk;
  const change = {
    ...(options.rpo === undefined ? {} : { rpo_ms: parseDuration(options.rpo) }),
    ...(disks === undefined ? {} : { disks }),
    ...(options.addedDisks === undefined ? {} : { added_disks: options.addedDisks }),
    ...(options.scratch === undefined ? {} : { scratch_bytes: sizeOf(options.scratch) }),
    ...(options.keepAll === undefined && options.tier === undefined
      ? {}
      : { retention: retentionOf(options, retention) }),
  };
  if (Object.keys(change).length > 0) return change;
  throw new Failure('usage_invalid', 'nothing is named that is to change', {
    hint: 'Such as: antipode set VM --rpo 30s. All that can be: antipode set --help',
  });
}

function retentionOf({ keepAll, tier }: SetOptions, before: Retention): Retention {
  return {
    keep_all_ms: keepAll === undefined ? before.keep_all_ms : parseDuration(keepAll),
    tiers: tier === undefined ? before.tiers : tier.filter((text) => text !== 'none').map(tierOf),
  };
}

function tierOf(text: string): Retention['tiers'][number] {
  const [every = '', forText = '', ...more] = text.split(':');
  if (forText === '' || more.length > 0) {
    throw new Failure('usage_invalid', `"${text}" is no tier`, {
      hint: 'Write two durations: 1h:1d keeps one point every hour, for a day.',
    });
  }
  return { every_ms: parseDuration(every), for_ms: parseDuration(forText) };
}

const SIZES: Record<string, number> = { K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 };

function sizeOf(text: string): number {
  const match = /^(\d{1,9})([KMGT])(iB)?$/.exec(text.trim());
  if (match !== null) return Number(match[1]) * SIZES[match[2]!]!;
  throw new Failure('usage_invalid', `"${text}" is no size`, {
    hint: 'Write a number and a unit: 512M, 2G.',
  });
}

/**
 * `antipode replica list | points | verify | export DIR`: what can be done with a bare replica directory, without a
 * manager, a database or a server. The directory may be in use by a replication server meanwhile.
 */
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { describe, Failure, hasCode } from '#/lib/failure.ts';
import type { RecoveryPoint } from '#/replica/replica.ts';
import { examples, interrupted, print, printJson, say } from './command.ts';
import { exportPoint, type ExportFormat } from './replica-export.ts';
import { choosePoint, isDirectory, openBareReplica } from './replica-target.ts';
import { table } from './table.ts';

type JsonOption = { json?: boolean };

export function registerReplicaCommands(program: Command): void {
  const replica = program
    .command('replica')
    .description('Work on a bare replica directory: no manager and no server is needed');
  examples(
    replica
      .command('list <directory>')
      .description('The replicas in a directory: a replication server’s store, or one replica')
      .option('--json', 'print JSON, for programs')
      .action(list),
    ['antipode replica list /var/lib/antipode/replicas'],
  );
  examples(
    replica
      .command('points <directory>')
      .description('The recovery points of a replica')
      .option('--json', 'print JSON, for programs')
      .action(points),
    ['antipode replica points /var/lib/antipode/replicas/replica-7f3a'],
  );
  examples(
    replica
      .command('verify <directory>')
      .description('Check every block of every recovery point against its digest')
      .option('--json', 'print JSON, for programs')
      .action(verify),
    ['antipode replica verify /var/lib/antipode/replicas/replica-7f3a'],
  );
  examples(
    replica
      .command('export <directory> <target>')
      .description('Write the disks and files of a recovery point to a directory')
      .option('--point <number>', 'the recovery point; the newest when left out')
      .option('--format <format>', 'raw or qcow2', 'qcow2')
      .option('--json', 'print JSON, for programs')
      .action(exportTo),
    ['antipode replica export /var/lib/antipode/replicas/replica-7f3a /mnt/usb --point 42 --format raw'],
  );
}

async function list(directory: string, { json }: JsonOption): Promise<void> {
  const rows = [];
  for (const path of await replicaPaths(resolve(directory))) {
    try {
      const replica = await openBareReplica(path);
      const all = await replica.points();
      const { replicaId, vm, siteId } = replica.identity;
      const bytes = await replica.storedBytes();
      rows.push({
        path,
        replica_id: replicaId,
        vm,
        site_id: siteId,
        points: all.length,
        stored_bytes: bytes,
        newest: newest(all),
      });
    } catch (error) {
      if (hasCode(error, 'not_found')) continue;
      rows.push({ path, problem: describe(error) });
    }
  }
  if (json === true) return printJson(rows);
  const titles = ['VM', 'SITE', 'POINTS', 'NEWEST', 'STORED', 'DIRECTORY'];
  const lines = rows.map((row) =>
    'problem' in row
      ? ['?', '?', '?', '?', '?', `${row.path}: ${row.problem}`]
      : [
          row.vm.name,
          row.site_id,
          String(row.points),
          row.newest?.moment ?? '-',
          megabytes(row.stored_bytes),
          row.path,
        ],
  );
  print(table(titles, lines, `no replica in ${directory}`));
}

async function points(directory: string, { json }: JsonOption): Promise<void> {
  const replica = await openBareReplica(directory);
  const all = await replica.points();
  if (json === true) return printJson(all.map(pointJson));
  const titles = ['POINT', 'MOMENT', 'CONSISTENCY', 'STORED', 'DISKS'];
  const rows = all.map((point) => [
    String(point.sequence),
    instant(point.momentMs),
    point.consistency,
    megabytes(point.deltaBytes),
    point.disks.map(({ key, bytes }) => `${key} ${megabytes(bytes)}`).join(', '),
  ]);
  print(table(titles, rows, 'no recovery point yet: the first copy is not complete'));
}

async function verify(directory: string, { json }: JsonOption): Promise<void> {
  const replica = await openBareReplica(directory);
  const report = await replica.verify(progressOf('checked'), interrupted());
  const { points: count, blocksChecked, problems, truncated } = report;
  if (json === true) printJson({ points: count, blocks_checked: blocksChecked, problems, truncated });
  else {
    for (const { where, what } of problems) print(`${where}: ${what}`);
    print(
      `${count} points, ${blocksChecked} blocks checked, ${problems.length}${truncated ? ' or more' : ''} problems`,
    );
  }
  if (problems.length > 0) {
    throw new Failure('storage_corrupt', `verify ${directory}: ${problems.length} problems`, {
      hint: 'Points that are not named are good: export one of those.',
    });
  }
}

type ExportOptions = JsonOption & { point?: string; format: string };

async function exportTo(
  directory: string,
  target: string,
  { json, point, format }: ExportOptions,
): Promise<void> {
  if (format !== 'raw' && format !== 'qcow2') {
    throw new Failure('usage_invalid', `"${format}" is no format of an exported disk`, {
      hint: 'Write --format raw or --format qcow2.',
    });
  }
  const replica = await openBareReplica(directory);
  const report = await exportPoint({
    replica,
    sequence: await choosePoint(replica, point),
    target: resolve(target),
    format: format satisfies ExportFormat,
    progress: progressOf('exported'),
    signal: interrupted(),
  });
  if (json === true) return printJson(report);
  print(`point ${report.sequence}`);
  for (const { sha256, path, bytes } of report.disks) print(`${sha256}  ${path}  (${bytes} bytes)`);
  for (const path of report.files) print(path);
}

/** The directory itself when it is a replica, else those in it. */
async function replicaPaths(directory: string): Promise<string[]> {
  if (!(await isDirectory(directory))) {
    throw new Failure('not_found', `list ${directory}: there is no such directory`);
  }
  const entries = await readdir(directory, { withFileTypes: true });
  if (entries.some(({ name }) => name === 'superblock')) return [directory];
  return entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(directory, name))
    .sort();
}

function newest(all: readonly RecoveryPoint[]): { sequence: number; moment: string } | null {
  const head = all.at(-1);
  return head === undefined ? null : { sequence: head.sequence, moment: instant(head.momentMs) };
}

function pointJson(point: RecoveryPoint) {
  return {
    sequence: point.sequence,
    stamp: point.stamp,
    moment: instant(point.momentMs),
    acknowledged: instant(point.acknowledgedMs),
    epoch: point.epoch,
    consistency: point.consistency,
    disks: point.disks,
    attachments: point.attachments,
    delta_bytes: point.deltaBytes,
  };
}

function instant(ms: number): string {
  return Temporal.Instant.fromEpochMilliseconds(ms).toString({ smallestUnit: 'millisecond' });
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** Tells a person at a terminal how far it is, at most at each percent. */
function progressOf(verb: string): (done: number, total: number) => void {
  let last = -1;
  return (done, total) => {
    const percent = Math.floor((100 * done) / Math.max(1, total));
    if (percent === last || !process.stderr.isTTY) return;
    last = percent;
    say(`${verb} ${percent} %`);
  };
}

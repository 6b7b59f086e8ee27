/** reprotect: protecting a VM that was recovered here back to where it came from; show: what its old copy had. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { ProtectionView } from '#/api/protections.ts';
import type { ReprotectionRequest, SeedView } from '#/api/reprotections.ts';
import { Failure } from '#/lib/failure.ts';
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
import { bytes, duration, parseDuration, time } from './duration.ts';
import type { ManagerApi } from './manager-api.ts';
import { table } from './table.ts';

const LOOK_EVERY_MS = 1000;

type ReprotectOptions = CommonOptions & { rpo?: string; wait: boolean };

export function registerReprotectCommands(program: Command): void {
  const command = withManager(
    program
      .command('reprotect')
      .description(
        'protect a VM that was recovered here to the site that it came from, in deltas against its old copy there. A ' +
          'copy that is paused there is ended for it: its memory is lost, its disks become a recovery point',
      )
      .argument('<vm>', 'name or UUID')
      .option('--rpo <duration>', 'another RPO than it had')
      .option('--no-wait', 'do not wait until the other site has made its old copy a recovery point'),
  ).action(async (vm: string, options: ReprotectOptions) => {
    const api = await managerOf(options);
    const request: ReprotectionRequest = {
      vm,
      ...(options.rpo === undefined ? {} : { rpo_ms: parseDuration(options.rpo) }),
    };
    let view = await api.post<ProtectionView>('/reprotections', request);
    if (options.wait) view = await waitUntilActive(api, view);
    if (options.json === true) return printJson(view);
    print(words(view));
    say(`follow it with: antipode status --watch${sameSite(options)}`);
  });
  examples(command, [
    'antipode reprotect ledger',
    'antipode reprotect ledger --rpo 15m --no-wait',
    'antipode reprotect show ledger      # at the other site: what only its old copy had',
  ]);
  registerShow(command);
}

function registerShow(reprotect: Command): void {
  const show = withManager(
    reprotect
      .command('show')
      .description(
        'how the replica of a VM was filled from the old copy of this site, and what only that copy had',
      )
      .argument('<vm>', "the VM's name or UUID, or the replica's id"),
  ).action(async (vm: string, own: CommonOptions, command: Command) => {
    const options = { ...command.parent?.opts<CommonOptions>(), ...own };
    const api = await managerOf(options);
    const view = await api.get<SeedView>(`/seeds/${encodeURIComponent(vm)}`);
    if (options.json === true) return printJson(view);
    for (const step of view.steps) {
      const took = step.ended_ms === null ? 'under way' : duration(step.ended_ms - step.started_ms);
      print(`  ${step.name} (${took})${step.note === null ? '' : `: ${step.note}`}`);
    }
    print(view.note ?? `the replica of ${view.vm_name} is ${view.state}`);
    const only = view.only_here;
    if (only === null || only.bytes === 0) return;
    print(`written between ${time(only.after_ms)} and ${time(only.until_ms)}:`);
    const rows = only.extents.map(({ disk, offset, length }) => [disk, String(offset), bytes(length)]);
    print(table(['DISK', 'OFFSET', 'LENGTH'], rows, ''));
    const left = only.extent_count - only.extents.length;
    if (left > 0) say(`and ${left} more, listed on its host in seeds/only-here-${view.replica_id}.json`);
    if (view.sequence !== null) say(`all of it is in point ${view.sequence}: antipode replica export --help`);
  });
  examples(show, ['antipode reprotect show ledger', 'antipode reprotect show ledger --json']);
}

/** Until the other site has filled the replica; one that went away is not waited for. */
async function waitUntilActive(api: ManagerApi, first: ProtectionView): Promise<ProtectionView> {
  const signal = interrupted();
  if (first.state === 'seeding') say(`${first.site_name} makes its old copy a recovery point`);
  let view = first;
  while (view.state === 'seeding') {
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => {});
    if (signal.aborted) {
      throw new Failure('cancelled', `no longer waiting for ${view.site_name}, which goes on`, {
        hint: 'Look at it with: antipode status',
      });
    }
    view = await api.get<ProtectionView>(`/protections/${view.id}`);
  }
  return view;
}

function words(view: ProtectionView): string {
  const { vm_name: vm, site_name: site } = view;
  switch (view.state) {
    case 'active':
      return `${vm} is protected to ${site} with an RPO of ${duration(view.rpo_ms)}`;
    case 'seeding':
      return `${site} makes its old copy of ${vm} a recovery point first`;
    case 'requested':
      return `${site} went away before it confirmed; it is asked again until it does`;
    case 'removing':
    case 'superseded':
      return `the protection of ${vm} to ${site} is ${view.state}`;
  }
}

/** status: how every protected VM stands. */
import type { Command } from 'commander';
import type { SiteStatus, VmStatus } from '#/api/status.ts';
import {
  examples,
  interrupted,
  managerOf,
  print,
  printJson,
  withManager,
  type CommonOptions,
} from './command.ts';
import { duration, time } from './duration.ts';
import type { ManagerApi } from './manager-api.ts';
import { printable, table } from './table.ts';

const TITLES = ['VM', 'PROTECTED AT', 'REPLICA AT', 'RPO', 'AGE', 'RPO MET', 'STATE'];
const WATCH_EVERY_MS = 1000;

export function registerStatusCommand(program: Command): void {
  const command = withManager(
    program
      .command('status')
      .description(
        'every VM protected from here or to here: its RPO, and the age of its newest recovery point',
      )
      .option('--watch', 'show it again as it changes, until interrupted'),
  ).action(async (options: CommonOptions & { watch?: boolean }) => {
    const api = await managerOf(options);
    if (options.watch === true) return watch(api, options.json === true);
    const status = await api.get<SiteStatus>('/status');
    if (options.json === true) printJson(status);
    else print(render(status));
  });
  examples(command, ['antipode status', 'antipode status --watch', 'antipode status --site east --json']);
}

async function watch(api: ManagerApi, isJson: boolean): Promise<void> {
  const signal = interrupted();
  for (;;) {
    const status = await api.get<SiteStatus>('/status', signal);
    if (signal.aborted) return;
    if (isJson) print(JSON.stringify(status));
    else {
      if (process.stdout.isTTY) process.stdout.write('\u001b[H\u001b[J');
      print(render(status));
    }
    if (!(await next(api, signal))) return;
  }
}

/** Resolves at the next event or after a second, since ages grow without events; false when interrupted. */
async function next(api: ManagerApi, signal: AbortSignal): Promise<boolean> {
  const either = AbortSignal.any([signal, AbortSignal.timeout(WATCH_EVERY_MS)]);
  for await (const message of api.stream(undefined, either)) {
    if (message.kind === 'event') break;
  }
  return !signal.aborted;
}

export function render(status: SiteStatus): string {
  const rows = status.vms.map((vm) => [
    vm.vm_name,
    vm.protected_site,
    vm.recovery_site,
    duration(vm.rpo_ms),
    vm.age_ms === null ? '-' : duration(vm.age_ms),
    isMet(vm, status.now_ms),
    state(vm),
  ]);
  const nothing = 'nothing is protected from here or to here yet: antipode protect --help';
  const notes = status.vms.flatMap(notesOf);
  const head = `${status.site_name}, ${time(status.now_ms)}\n\n`;
  return `${head}${table(TITLES, rows, nothing)}${notes.length === 0 ? '' : `\n${notes.join('\n')}\n`}`;
}

function isMet(vm: VmStatus, nowMs: number): string {
  switch (vm.rpo) {
    case 'met':
      return 'yes';
    case 'violated': {
      const since = vm.violated_since_ms;
      return since === null ? 'NO' : `NO, for ${duration(Math.max(0, nowMs - since))}`;
    }
    case 'none':
      return '-';
    case 'unknown':
      return 'unknown';
  }
}

function state(vm: VmStatus): string {
  if (vm.unknown_since_ms !== null) return `unknown since ${time(vm.unknown_since_ms)}`;
  const words = vm.state.replaceAll('_', ' ');
  if (vm.progress === null || vm.progress.total_bytes === 0) return words;
  return `${words} ${Math.floor((vm.progress.done_bytes / vm.progress.total_bytes) * 100)} %`;
}

function notesOf(vm: VmStatus): string[] {
  const failure =
    vm.failure === null
      ? []
      : [`${vm.vm_name}: ${vm.failure.message}${vm.failure.hint === null ? '' : `\n  ${vm.failure.hint}`}`];
  return [...failure, ...vm.notices.map((notice) => `${vm.vm_name}: ${notice}`)].map((text) =>
    text.split('\n').map(printable).join('\n'),
  );
}

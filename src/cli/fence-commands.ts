/** fence: which site may run a VM, and letting a copy that has yielded run again. */
import type { Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { FenceView } from '#/api/fences.ts';
import { examples, managerOf, print, printJson, withManager, type CommonOptions } from './command.ts';
import { time } from './duration.ts';
import { table } from './table.ts';

export function registerFenceCommands(program: Command): void {
  const fence = withManager(
    program
      .command('fence')
      .description('which site may run each VM that was ever protected, and copies here that have yielded'),
  ).action(async (options: CommonOptions) => {
    const api = await managerOf(options);
    const page = await api.get<Page<FenceView>>('/fences');
    if (options.json === true) return printJson(page);
    const titles = ['VM', 'EPOCH', 'MAY RUN AT', 'SINCE', 'COPIES HERE THAT MUST NOT'];
    print(table(titles, page.items.map(row), 'no VM was protected from here or to here yet'));
  });
  examples(fence, ['antipode fence', 'antipode fence release ledger']);
  registerRelease(fence);
}

function registerRelease(fence: Command): void {
  const release = withManager(
    fence
      .command('release')
      .description(
        'let the copy of this site run again; the one of the other site yields. Also when a VM of this site is ' +
          'refused because its definition lost its mark',
      )
      .argument('<vm>', "the VM's name or UUID")
      .option('--force', 'although the VM runs at the other site, or nobody there answers'),
  ).action(async (vm: string, own: CommonOptions & { force?: boolean }, command: Command) => {
    // Options of the same name before the word `release` are those of `fence`.
    const options = { ...command.parent?.opts<CommonOptions>(), ...own };
    const api = await managerOf(options);
    const body = own.force === true ? { force: true } : {};
    const view = await api.post<FenceView>(`/fences/${encodeURIComponent(vm)}/release`, body);
    if (options.json === true) return printJson(view);
    print(`${view.vm_name} may run at ${view.site_name} again, with epoch ${view.epoch}`);
  });
  examples(release, ['antipode fence release ledger', 'antipode fence release ledger --force']);
}

function row(view: FenceView): string[] {
  const copies = view.copies.map(({ host_name: host, state, vm_state: vm, yielded_ms: at }) => {
    if (state === 'unknown') return `${host}: not known, its host does not report`;
    if (state === 'failing') return `${host}: ${vm}, MAY RUN`;
    return `${host}: ${vm}${at === null ? '' : `, yielded ${time(at)}`}`;
  });
  return [view.vm_name, String(view.epoch), view.site_name, time(view.claimed_ms), copies.join('; ')];
}

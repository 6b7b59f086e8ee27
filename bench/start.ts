/**
 * From typing `recover` to the recovered guest's first instruction, for a disk of 1 GiB and one of 100 GiB: nothing is
 * copied before the start, so both take the same time.
 */
import { join } from 'node:path';
import type { RecoveryView } from '#/api/recoveries.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { run } from '#lab/command.ts';
import { createLedger } from '#lab/ledger-vm.ts';
import { TwoSites, eventually } from '#lab/two-sites.ts';
import { figure, interleave, median, medianRatio, type Benchmark } from './figure.ts';

const GIB = 1024 ** 3;
const SMALL_BYTES = 8 * 1024 * 1024;
const DISKS = { small: GIB, large: 100 * GIB };
const RPO_MS = 3_600_000;
/** What a person types. */
const ANTIPODE = join(import.meta.dirname, '..', 'antipode');

export const start: Benchmark = {
  about: "from `recover` to the guest's first instruction, 1 GiB against 100 GiB",
  run: async (options) => {
    await using lab = await TwoSites.up(options.say);
    for (const [name, bytes] of Object.entries(DISKS)) {
      await createLedger(lab.west, { name, diskBytes: [SMALL_BYTES, SMALL_BYTES, bytes], intervalMs: 1000 });
      await lab.protect(name, RPO_MS);
      await lab.pointAfter(name, 0);
    }
    const seconds = await interleave(
      { small: () => recoverOnce(lab, 'small'), large: () => recoverOnce(lab, 'large') },
      options,
    );
    return [
      figure('1 GiB', median(seconds.small), 's', 1.5),
      figure('100 GiB', median(seconds.large), 's', 1.5),
      figure('ratio of 100 GiB to 1 GiB', medianRatio(seconds.large, seconds.small), 'x', 1.15),
    ];
  },
};

/** A test recovery takes the same way as a real one, and can be taken back for the next round. */
async function recoverOnce(lab: TwoSites, vm: string): Promise<number> {
  const manager = `unix:${lab.east.managerSocket}`;
  const startedMs = systemClock.now();
  await run([ANTIPODE, 'recover', vm, '--test', '--no-wait', '--manager', manager, '--json']);
  const view = await eventually(`the first instruction of ${vm}`, async () => {
    const { items } = await lab.api<{ items: RecoveryView[] }>(lab.east, 'GET', '/recoveries');
    const found = items.find((each) => each.vm_name === vm && each.state === 'ready');
    return found?.result?.['first_instruction_ms'] === undefined ? undefined : found;
  });
  await lab.api(lab.east, 'POST', `/recoveries/${view.id}/cleanup`);
  await eventually(`the cleanup of ${vm}`, async () => {
    const { state } = await lab.api<RecoveryView>(lab.east, 'GET', `/recoveries/${view.id}`);
    return state === 'cleaned' ? true : undefined;
  });
  return (Number(view.result?.['first_instruction_ms']) - startedMs) / 1000;
}

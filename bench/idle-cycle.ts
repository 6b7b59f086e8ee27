/** Wall and CPU time of a cycle in which nothing changed, for a guest with two disks. */
import { createLedger, serialLog, waitForText } from '#lab/ledger-vm.ts';
import { TwoSites, cpuMs } from '#lab/two-sites.ts';
import { figure, median, type Benchmark } from './figure.ts';

const VM = 'idle';
/** No record is written during the benchmark. */
const NEVER_MS = 86_400_000;
const RPO_MS = 1000;
const CYCLES_PER_ROUND = 20;
/** Programs that run for days have compiled what a cycle runs; those of a new lab compile for this many cycles. */
const WARM_UP_CYCLES = 60;

export const idleCycle: Benchmark = {
  about: 'wall and CPU time of a cycle with nothing changed, two disks',
  run: async (options) => {
    await using lab = await TwoSites.up(options.say);
    await createLedger(lab.west, { name: VM, intervalMs: NEVER_MS });
    // The first record is the last: from then on the guest is idle.
    await waitForText(serialLog(lab.west, VM), /LEDGER n=\d+/, { timeoutMs: 120_000 });
    await lab.protect(VM, RPO_MS);
    let newest = await lab.pointAfter(VM, WARM_UP_CYCLES);
    const ours = [lab.west.process('agent')!, lab.east.process('replication-server')!];
    const libvirt = [lab.west.process('libvirtd')!];
    const wall: number[] = [];
    const cpu: number[] = [];
    const libvirtCpu: number[] = [];
    for (let round = 1; round <= options.rounds; round++) {
      const before = { sequence: newest.sequence, ours: total(ours), libvirt: total(libvirt) };
      newest = await lab.pointAfter(VM, before.sequence + CYCLES_PER_ROUND - 1);
      const count = newest.sequence - before.sequence;
      cpu.push((total(ours) - before.ours) / count);
      libvirtCpu.push((total(libvirt) - before.libvirt) / count);
      const points = await lab.points((await lab.replica(VM))!.id);
      for (const point of points.slice(0, count)) wall.push(point.acknowledged_ms - point.moment_ms);
      options.say(
        `round ${round} of ${options.rounds}: ${count} cycles, ${cpu.at(-1)!.toFixed(1)} ms CPU each`,
      );
    }
    return [
      figure('wall, from before the freeze to durable', median(wall), 'ms', 150),
      figure('CPU of agent and replication server', median(cpu), 'ms', 30),
      figure('CPU of libvirtd', median(libvirtCpu), 'ms'),
      figure('cycles', wall.length, 'count'),
    ];
  },
};

function total(processes: readonly { pid: number }[]): number {
  return processes.reduce((sum, process) => sum + cpuMs(process.pid), 0);
}

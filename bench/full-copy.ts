/**
 * The first recovery point of a running guest with 2 GiB of random data: encrypted, checked and durable at the second
 * site, against `qemu-img convert` and `nbdcopy` of the same guest's export to local files.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '#/lib/system-clock.ts';
import { run } from '#lab/command.ts';
import { createLedger, ledgerDiskPaths, serialLog, waitForText } from '#lab/ledger-vm.ts';
import { TwoSites, cpuMs } from '#lab/two-sites.ts';
import {
  figure,
  interleave,
  median,
  medianRatio,
  type Benchmark,
  type BenchmarkOptions,
  type Figure,
} from './figure.ts';
import { withPullExport } from './pull-export.ts';

const VM = 'full';
const RANDOM_BYTES = 2 * 1024 ** 3;
const DISK_BYTES = 4 * 1024 ** 3;
const SMALL_BYTES = 8 * 1024 * 1024;
const RPO_MS = 3_600_000;

export const fullCopy: Benchmark = {
  about: 'first recovery point of 2 GiB of random data, against qemu-img convert and nbdcopy',
  run: async (options) => {
    await using lab = await TwoSites.up(options.say);
    await makeGuest(lab, options);
    const cpu: number[] = [];
    const seconds = await interleave(
      {
        antipode: () => firstPoint(lab, cpu),
        qemu_img: () =>
          withPullExport(lab.west, VM, 'vdc', (uri) =>
            copyTo(lab, ['qemu-img', 'convert', '-O', 'qcow2', uri]),
          ),
        nbdcopy: () => withPullExport(lab.west, VM, 'vdc', (uri) => copyTo(lab, ['nbdcopy', uri])),
      },
      options,
    );
    return figures(seconds, cpu);
  },
};

function figures(seconds: Record<'antipode' | 'qemu_img' | 'nbdcopy', number[]>, cpu: number[]): Figure[] {
  return [
    figure('ratio to qemu-img convert', medianRatio(seconds.antipode, seconds.qemu_img), 'x', 2),
    figure('ratio to nbdcopy', medianRatio(seconds.antipode, seconds.nbdcopy), 'x'),
    figure('antipode', median(seconds.antipode), 's'),
    figure('qemu-img convert', median(seconds.qemu_img), 's'),
    figure('nbdcopy', median(seconds.nbdcopy), 's'),
    figure('CPU of agent and replication server', median(cpu), 's'),
  ];
}

async function makeGuest(lab: TwoSites, options: BenchmarkOptions): Promise<void> {
  options.say('making a disk with 2 GiB of random data');
  const diskBytes = [SMALL_BYTES, SMALL_BYTES, DISK_BYTES];
  await createLedger(lab.west, { name: VM, diskBytes, intervalMs: 1000, start: false });
  const path = ledgerDiskPaths(lab.west, VM, 3)[2]!;
  const raw = `${path}.raw`;
  await run(
    ['sh', '-c', `head -c ${RANDOM_BYTES} /dev/urandom >"$1" && truncate -s ${DISK_BYTES} "$1"`, 'sh', raw],
    {
      timeoutMs: 120_000,
    },
  );
  await run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-o', 'compat=1.1', raw, path], {
    timeoutMs: 120_000,
  });
  await rm(raw);
  await lab.west.virsh(['start', VM], { timeoutMs: 60_000 });
  // A guest that boots takes a processor for itself.
  await waitForText(serialLog(lab.west, VM), /LEDGER n=\d+/, { timeoutMs: 120_000 });
}

/** Seconds from asking for protection to the first point's acknowledgement. */
async function firstPoint(lab: TwoSites, cpu: number[]): Promise<number> {
  const processes = [lab.west.process('agent')!, lab.east.process('replication-server')!];
  const before = processes.map((process) => cpuMs(process.pid));
  const startedMs = systemClock.now();
  const protection = await lab.protect(VM, RPO_MS);
  const point = await lab.pointAfter(VM, 0);
  const used = processes.map((process, index) => cpuMs(process.pid) - before[index]!);
  cpu.push(used.reduce((sum, ms) => sum + ms, 0) / 1000);
  await lab.unprotect(protection);
  return (point.acknowledged_ms - startedMs) / 1000;
}

async function copyTo(lab: TwoSites, argv: readonly string[]): Promise<number> {
  const target = join(lab.west.diskDirectory, 'peer.img');
  const started = systemClock.monotonicMs();
  try {
    await run([...argv, target], { timeoutMs: 120_000 });
    return (systemClock.monotonicMs() - started) / 1000;
  } finally {
    await rm(target, { force: true });
  }
}

/**
 * Bytes on the wire for each byte that changed: random 4 KiB writes of incompressible data.
 *
 * What is counted is what west's interface sends: Ethernet, IP and TCP headers, TLS, frames, digests, and whatever else
 * the sites say to each other meanwhile. QEMU's own granularity alone would give 16.
 */
import { createLedger } from '#lab/ledger-vm.ts';
import { TwoSites, wanBytesSent } from '#lab/two-sites.ts';
import { figure, median, type Benchmark } from './figure.ts';
import { writeRandomBlocks } from './random-writes.ts';

const VM = 'wire';
const NEVER_MS = 86_400_000;
const DISK_BYTES = 1024 ** 3;
const WRITES = 1500;
const RPO_MS = 20_000;

export const wire: Benchmark = {
  about: 'bytes on the wire for each byte changed, random 4 KiB writes of incompressible data',
  run: async (options) => {
    await using lab = await TwoSites.up(options.say);
    await createLedger(lab.west, { name: VM, diskBytes: [DISK_BYTES, DISK_BYTES], intervalMs: NEVER_MS });
    await lab.protect(VM, RPO_MS);
    await lab.pointAfter(VM, 0);
    const disk = { site: lab.west, vm: VM, index: 1, bytes: DISK_BYTES };
    const ratios: number[] = [];
    for (let round = 1; round <= options.rounds; round++) {
      const sent = await wanBytesSent(lab);
      const before = await newestSequence(lab);
      const changed = await writeRandomBlocks(disk, WRITES);
      // Two more points: what was written is in the first or the second of them, whenever that one began.
      await lab.pointAfter(VM, before + 1);
      ratios.push(((await wanBytesSent(lab)) - sent) / changed);
      options.say(
        `round ${round} of ${options.rounds}: ${ratios.at(-1)!.toFixed(4)} bytes on the wire a byte changed`,
      );
    }
    return [figure('bytes on the wire a byte changed', median(ratios), 'x', 1.1)];
  },
};

async function newestSequence(lab: TwoSites): Promise<number> {
  const [newest] = await lab.points((await lab.replica(VM))!.id);
  return newest?.sequence ?? 0;
}

/**
 * Bytes on the wire for each byte that changed: random 4 KiB writes of incompressible data.
 *
 * What is counted is what west's interface sends: Ethernet, IP and TCP headers, TLS, frames, digests, and whatever else
 * the sites say to each other meanwhile. QEMU's own granularity alone would give 16.
 */
import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { createLedger } from '#lab/ledger-vm.ts';
import { TwoSites, wanBytesSent } from '#lab/two-sites.ts';
import { figure, median, type Benchmark } from './figure.ts';

const VM = 'wire';
const NEVER_MS = 86_400_000;
const DISK_BYTES = 1024 ** 3;
const WRITES = 1500;
const RPO_MS = 20_000;
/** The guest's second disk, by its place in QEMU's object tree. */
const DEVICE = '/machine/peripheral/virtio-disk1/virtio-backend';

export const wire: Benchmark = {
  about: 'bytes on the wire for each byte changed, random 4 KiB writes of incompressible data',
  run: async (options) => {
    await using lab = await TwoSites.up(options.say);
    await createLedger(lab.west, { name: VM, diskBytes: [DISK_BYTES, DISK_BYTES], intervalMs: NEVER_MS });
    await lab.protect(VM, RPO_MS);
    await lab.pointAfter(VM, 0);
    const ratios: number[] = [];
    for (let round = 1; round <= options.rounds; round++) {
      const sent = await wanBytesSent(lab);
      const before = await newestSequence(lab);
      const changed = await writeRandomBlocks(lab, WRITES);
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

/** Writes distinct random blocks through QEMU's own block layer, as the guest's device would. Returns their bytes. */
async function writeRandomBlocks(lab: TwoSites, count: number): Promise<number> {
  await using libvirt = await Libvirt.connect({ socketPath: lab.west.libvirtSocket });
  const domain = await libvirt.lookupDomainByName(VM);
  const pattern = join(lab.west.diskDirectory, 'pattern');
  const blocks = new Set<number>();
  while (blocks.size < count) blocks.add(randomBytes(4).readUInt32BE() % (DISK_BYTES / BLOCK_BYTES));
  try {
    for (const block of blocks) {
      await writeFile(pattern, randomBytes(BLOCK_BYTES));
      const write = `write -s ${pattern} ${block * BLOCK_BYTES} ${BLOCK_BYTES}`;
      const said = await domain.monitorCommand(`qemu-io -d ${DEVICE} "${write}"`, ['hmp']);
      if (/error|failed|invalid/i.test(said)) throw new Error(`write block ${block}: ${said}`);
    }
  } finally {
    await rm(pattern, { force: true });
  }
  return blocks.size * BLOCK_BYTES;
}

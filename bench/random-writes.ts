/** Random 4 KiB writes of incompressible data through QEMU's own block layer, as a guest's device would make them. */
import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import type { Site } from '#lab/site.ts';

export type WrittenDisk = {
  site: Site;
  vm: string;
  /** Of the VM's disks, from 0. */
  index: number;
  bytes: number;
};

/** Writes distinct blocks. Returns their bytes. */
export async function writeRandomBlocks(disk: WrittenDisk, count: number): Promise<number> {
  return (await writeBlocks(disk, count)).size * BLOCK_BYTES;
}

/** Writes distinct blocks. Returns which. */
export async function writeBlocks(disk: WrittenDisk, count: number): Promise<ReadonlySet<number>> {
  const { site, vm, index, bytes } = disk;
  // The disk by its place in QEMU's object tree.
  const device = `/machine/peripheral/virtio-disk${index}/virtio-backend`;
  await using libvirt = await Libvirt.connect({ socketPath: site.libvirtSocket });
  const domain = await libvirt.lookupDomainByName(vm);
  const pattern = join(site.diskDirectory, 'pattern');
  const blocks = new Set<number>();
  while (blocks.size < count) blocks.add(randomBytes(4).readUInt32BE() % (bytes / BLOCK_BYTES));
  try {
    for (const block of blocks) {
      await writeFile(pattern, randomBytes(BLOCK_BYTES));
      const write = `write -s ${pattern} ${block * BLOCK_BYTES} ${BLOCK_BYTES}`;
      const said = await domain.monitorCommand(`qemu-io -d ${device} "${write}"`, ['hmp']);
      if (/error|failed|invalid/i.test(said)) throw new Error(`write block ${block}: ${said}`);
    }
  } finally {
    await rm(pattern, { force: true });
  }
  return blocks;
}

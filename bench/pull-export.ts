/** A pull-mode backup of a running VM, made with virsh alone: the very export that peers of ours read. */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Site } from '#lab/site.ts';

/** Calls `read` with the NBD URI of one disk's export; the backup job is ended afterwards. */
export async function withPullExport<T>(
  site: Site,
  vm: string,
  diskKey: string,
  read: (uri: string) => Promise<T>,
): Promise<T> {
  const socket = join(site.directory, 'run/libvirt/bench.sock');
  const xml = join(site.directory, 'bench-backup.xml');
  const scratch = join(site.diskDirectory, 'bench-scratch.qcow2');
  // Seen from inside the site, where its run directory is /run/libvirt.
  await writeFile(
    xml,
    `<domainbackup mode='pull'><server transport='unix' socket='/run/libvirt/bench.sock'/><disks>` +
      `<disk name='${diskKey}' backup='yes' type='file'><scratch file='${scratch}'/></disk></disks></domainbackup>`,
  );
  await site.virsh(['backup-begin', vm, xml]);
  try {
    return await read(`nbd+unix:///${diskKey}?socket=${socket}`);
  } finally {
    await site.virsh(['domjobabort', vm]);
    for (const path of [xml, scratch]) await rm(path, { force: true });
  }
}

/**
 * What libvirt found out about QEMU, kept from one lab to the next.
 *
 * A libvirt with an empty /var/cache/libvirt runs each QEMU binary several times before its first VM, which
 * takes seconds. Its files name the binaries, versions and the kernel they are about and are dropped by
 * libvirt itself when any of these differs, so an old one does no harm.
 */
import { mkdir, readFile, readdir, rename, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { guestCacheDirectory } from './guest/image.ts';
import type { Site } from './site.ts';

function shared(): string {
  return join(guestCacheDirectory(), 'capabilities');
}

function own(site: Site): string {
  return join(site.directory, 'cache/qemu/capabilities');
}

/** Before libvirtd starts for the first time. */
export async function lendCapabilities(site: Site): Promise<void> {
  if (!existsSync(own(site))) await copyFresh(shared(), own(site));
}

/** After a VM has started. */
export async function keepCapabilities(site: Site): Promise<void> {
  // All emulators, as whoever asks for libvirt's capabilities needs them.
  if (!existsSync(shared())) await site.virsh(['capabilities'], { timeoutMs: 120_000 });
  await copyFresh(own(site), shared());
}

async function copyFresh(from: string, to: string): Promise<void> {
  if (!existsSync(from)) return;
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) {
    if (!/^[0-9a-f]{64}\.xml$/.test(name)) continue;
    const text = await readFile(join(from, name));
    if (existsSync(join(to, name)) && text.equals(await readFile(join(to, name)))) continue;
    const copy = join(to, `copy-${process.pid}-${name}`);
    await writeFile(copy, text, { mode: 0o600 });
    await rename(copy, join(to, name));
  }
}

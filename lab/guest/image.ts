/**
 * The ledger guest's kernel and initramfs, made from Debian packages without a compiler and kept in a cache.
 *
 * The kernel is Debian's cloud kernel, unpacked from its package and not installed; the initramfs is the
 * static busybox, the few modules that virtio needs, and init.sh. Both are found by what they are made
 * from, so a changed init.sh or kernel is another image, and guests that run from the older one keep their
 * files.
 */
import { createHash } from 'node:crypto';
import {
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { run } from '#lab/command.ts';

export interface GuestImage {
  readonly kernel: string;
  readonly initrd: string;
}

/** Loaded in this order: each needs those before it. */
const MODULES = [
  'drivers/virtio/virtio_ring',
  'drivers/virtio/virtio',
  'drivers/virtio/virtio_pci_legacy_dev',
  'drivers/virtio/virtio_pci_modern_dev',
  'drivers/virtio/virtio_pci',
  'net/core/failover',
  'drivers/net/net_failover',
  'drivers/block/virtio_blk',
  'drivers/net/virtio_net',
  'drivers/char/virtio_console',
  'drivers/input/evdev',
  'drivers/acpi/button',
];
const BUSYBOX = '/bin/busybox';
const REPOSITORY = join(import.meta.dirname, '..', '..');
const ON_DHCP = `#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
echo "LEDGER address $ip" >/dev/console
`;

/** Where images are kept: $ANTIPODE_CACHE, or .cache in the repository. */
export function guestCacheDirectory(): string {
  return join(process.env['ANTIPODE_CACHE'] ?? join(REPOSITORY, '.cache'), 'guest');
}

/** The image, built on first use. Two builders at once do the work twice and agree on one result. */
export async function ensureGuestImage(cache = guestCacheDirectory()): Promise<GuestImage> {
  await mkdir(cache, { recursive: true });
  const kernelDirectory = await ensureKernel(cache);
  const hash = createHash('sha256').update(kernelDirectory);
  for (const path of [BUSYBOX, import.meta.filename, join(import.meta.dirname, 'init.sh')]) {
    hash.update(await readFile(path));
  }
  const initrd = join(cache, `initrd-${hash.digest('hex').slice(0, 16)}.gz`);
  if (!existsSync(initrd)) await buildInitramfs(kernelDirectory, initrd);
  return { kernel: join(kernelDirectory, 'vmlinuz'), initrd };
}

/** The directory of an unpacked kernel: any that is cached, else the newest that apt offers. */
async function ensureKernel(cache: string): Promise<string> {
  const cached = (await readdir(cache)).filter((name) => name.startsWith('kernel-')).toSorted();
  const newest = cached.at(-1);
  if (newest !== undefined) return join(cache, newest);
  let name = await kernelPackage();
  if (name === undefined) {
    await run(['apt-get', '-q', 'update'], { timeoutMs: 300_000 });
    name = await kernelPackage();
  }
  if (name === undefined) {
    throw new Failure(
      'tool_failed',
      'find a kernel for the ledger guest: apt knows no linux-image-cloud-amd64',
      {
        hint: "Debian's main repository for amd64 must be among apt's sources.",
      },
    );
  }
  const work = await mkdtemp(join(tmpdir(), 'antipode-kernel-'));
  try {
    await downloadPackages([name], work);
    const unpacked = join(work, 'unpacked');
    const archive = (await readdir(work)).find((file) => file.endsWith('.deb'));
    await run(['dpkg-deb', '-x', join(work, archive ?? ''), unpacked]);
    return await keepKernel(unpacked, name, cache);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The name of the newest that apt offers. */
export async function kernelPackage(): Promise<string | undefined> {
  const { stdout } = await run(['apt-cache', 'depends', 'linux-image-cloud-amd64'], { allowFailure: true });
  return /Depends: (linux-image-\S+-cloud-amd64)/.exec(stdout)?.[1];
}

/**
 * Package lists that are older than the archive name files that are gone from it, so a failure asks for new
 * lists.
 */
export async function downloadPackages(names: readonly string[], directory: string): Promise<void> {
  const download = ['apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download', ...names];
  const options = { cwd: directory, timeoutMs: 300_000 };
  if ((await run(download, { ...options, allowFailure: true })).code === 0) return;
  await run(['apt-get', '-q', 'update'], { timeoutMs: 300_000 });
  await run(download, options);
}

/** Moves the kernel and its modules to their place in one rename, so that a half-made one is never found. */
async function keepKernel(unpacked: string, name: string, cache: string): Promise<string> {
  const version = name.replace('linux-image-', '');
  const made = await mkdtemp(join(cache, 'making-'));
  await copyFile(join(unpacked, 'boot', `vmlinuz-${version}`), join(made, 'vmlinuz'));
  for (const module of MODULES) {
    const source = join(unpacked, 'lib/modules', version, 'kernel', `${module}.ko`);
    await copyFile(source, join(made, `${moduleName(module)}.ko`));
  }
  return place(made, join(cache, `kernel-${version}`));
}

/** Packs what is below `root` as an archive that the kernel unpacks. */
export async function packInitramfs(root: string, initrd: string): Promise<void> {
  const archive = `${initrd}.${process.pid}`;
  const pack = 'cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 >"$2"';
  await run(['sh', '-c', pack, 'sh', root, archive], { timeoutMs: 60_000 });
  await rename(archive, initrd);
}

async function buildInitramfs(kernelDirectory: string, initrd: string): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'antipode-initramfs-'));
  try {
    for (const directory of ['bin', 'modules']) await mkdir(join(root, directory));
    await copyFile(BUSYBOX, join(root, 'bin/busybox'));
    const applets = (await run([BUSYBOX, '--list'])).stdout.split('\n').filter((name) => /^[a-z]/.test(name));
    for (const name of applets) {
      if (name !== 'busybox') await symlink('busybox', join(root, 'bin', name));
    }
    for (const module of MODULES) {
      const file = `${moduleName(module)}.ko`;
      await copyFile(join(kernelDirectory, file), join(root, 'modules', file));
    }
    await writeFile(join(root, 'modules/order'), MODULES.map(moduleName).join('\n'));
    await writeFile(join(root, 'dots'), '.'.repeat(512));
    await writeFile(join(root, 'bin/on-dhcp'), ON_DHCP, { mode: 0o755 });
    await writeFile(join(root, 'init'), await readFile(join(import.meta.dirname, 'init.sh')), {
      mode: 0o755,
    });
    await packInitramfs(root, initrd);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

function moduleName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Renames, so that a half-made directory is never found. */
export async function place(made: string, target: string): Promise<string> {
  try {
    await rename(made, target);
  } catch (error) {
    await rm(made, { recursive: true, force: true });
    if (!existsSync(target)) throw error;
  }
  return target;
}

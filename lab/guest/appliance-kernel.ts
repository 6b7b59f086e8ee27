/**
 * A kernel for libguestfs' appliance on machines that have none of their own, such as containers: Debian's cloud kernel
 * with all its modules, unpacked from its package and not installed, and kept in the cache.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { run } from '#lab/command.ts';
import { downloadPackages, guestCacheDirectory, kernelPackage, place } from './image.ts';

/** supermin looks into it whatever it is told. */
const MODULES = '/lib/modules';

/** What libguestfs has to be told to boot its appliance here. Its first start builds that, which takes its time. */
export async function applianceEnvironment(cache = guestCacheDirectory()): Promise<Record<string, string>> {
  const appliance = join(cache, 'appliance');
  await mkdir(appliance, { recursive: true });
  const common = {
    LIBGUESTFS_BACKEND: 'direct',
    LIBGUESTFS_CACHEDIR: appliance,
  };
  if (await hasKernel()) return common;
  await mkdir(MODULES, { recursive: true });
  const unpacked = await ensureWholeKernel(cache);
  const [version] = await readdir(join(unpacked, 'lib/modules'));
  return {
    ...common,
    SUPERMIN_KERNEL: join(unpacked, 'boot', `vmlinuz-${version}`),
    SUPERMIN_KERNEL_VERSION: version!,
    SUPERMIN_MODULES: join(unpacked, 'lib/modules', version!),
  };
}

async function hasKernel(): Promise<boolean> {
  const kernels = (await readdir('/boot').catch(() => [])).filter((name) => name.startsWith('vmlinuz-'));
  return kernels.some((name) => existsSync(join(MODULES, name.slice('vmlinuz-'.length))));
}

async function ensureWholeKernel(cache: string): Promise<string> {
  const target = join(cache, 'appliance-kernel');
  if (existsSync(target)) return target;
  const name = await kernelPackage();
  if (name === undefined)
    throw new Failure('tool_failed', 'find a kernel: apt knows no linux-image-cloud-amd64');
  const work = await mkdtemp(join(tmpdir(), 'antipode-kernel-'));
  try {
    await downloadPackages([name], work);
    const archive = (await readdir(work)).find((file) => file.endsWith('.deb'));
    const made = await mkdtemp(join(cache, 'making-'));
    await run(['dpkg-deb', '-x', join(work, archive ?? ''), made], { timeoutMs: 120_000 });
    await run(['depmod', '-b', made, name.replace('linux-image-', '')], { timeoutMs: 120_000 });
    return await place(made, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/**
 * The ledger guest with QEMU's guest agent: a second archive behind its initramfs, which the kernel unpacks over the
 * first. Only VMs that are to have an agent carry it, since its libraries triple what is unpacked at boot.
 *
 * Agent and libraries are Debian's, unpacked from their packages and not installed, and kept in the cache.
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
import { basename, join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { run } from '#lab/command.ts';
import {
  downloadPackages,
  ensureGuestImage,
  guestCacheDirectory,
  packInitramfs,
  place,
  type GuestImage,
} from './image.ts';

const PACKAGE = 'qemu-guest-agent';
const LIBRARIES = 'lib/x86_64-linux-gnu';
const LOADER = 'lib64/ld-linux-x86-64.so.2';
/** What the agent runs to end the guest. The ledger, which is process 1, ends it after the record it writes. */
const SHUTDOWN = '#!/bin/sh\nkill -TERM 1\n';

/** The image, built on first use. */
export async function ensureAgentImage(cache = guestCacheDirectory()): Promise<GuestImage> {
  const { kernel, initrd: plain } = await ensureGuestImage(cache);
  const agent = await ensureAgent(cache);
  const hash = createHash('sha256')
    .update(`${plain} ${agent}`)
    .update(await readFile(import.meta.filename));
  const initrd = join(cache, `initrd-agent-${hash.digest('hex').slice(0, 16)}.gz`);
  if (!existsSync(initrd)) await append(plain, agent, initrd);
  return { kernel, initrd };
}

/** Two archives, one after the other, are one to the kernel. */
async function append(plain: string, agent: string, initrd: string): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'antipode-agent-'));
  try {
    for (const directory of ['sbin', LIBRARIES, 'lib64']) {
      await mkdir(join(root, directory), { recursive: true });
    }
    for (const name of await readdir(agent)) {
      const target = name === 'qemu-ga' ? 'sbin' : name === basename(LOADER) ? 'lib64' : LIBRARIES;
      await copyFile(join(agent, name), join(root, target, name));
    }
    await writeFile(join(root, 'sbin/shutdown'), SHUTDOWN, { mode: 0o755 });
    await mkdir(join(root, 'usr'));
    await symlink('../sbin', join(root, 'usr/sbin'));
    const second = `${initrd}.second`;
    await packInitramfs(root, second);
    const whole = `${initrd}.${process.pid}`;
    await writeFile(whole, Buffer.concat([await readFile(plain), await readFile(second)]));
    await rm(second, { force: true });
    await rename(whole, initrd);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** A directory with the agent, the loader and the libraries that it needs. */
async function ensureAgent(cache: string): Promise<string> {
  const known = (await readdir(cache)).filter((name) => name.startsWith('guest-agent-')).toSorted();
  const newest = known.at(-1);
  if (newest !== undefined) return join(cache, newest);
  const work = await mkdtemp(join(tmpdir(), 'antipode-agent-'));
  try {
    await downloadPackages(await packages(), work);
    const unpacked = join(work, 'unpacked');
    const archives = (await readdir(work)).filter((file) => file.endsWith('.deb'));
    for (const file of archives) await run(['dpkg-deb', '-x', join(work, file), unpacked]);
    const version = /^qemu-guest-agent_(.+)_amd64/.exec(
      archives.find((file) => file.startsWith(PACKAGE)) ?? '',
    );
    const made = await mkdtemp(join(cache, 'making-'));
    for (const path of await neededFiles(unpacked)) await copyFile(path, join(made, basename(path)));
    return await place(
      made,
      join(cache, `guest-agent-${(version?.[1] ?? 'unknown').replaceAll(/[^a-z0-9.+-]+/gi, '-')}`),
    );
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The agent and every library that it needs, of whatever name in this release of Debian. */
async function packages(): Promise<string[]> {
  const options = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances', 'pre-depends'];
  const depends = ['apt-cache', 'depends', '--recurse', ...options.map((word) => `--no-${word}`), PACKAGE];
  let { stdout } = await run(depends, { allowFailure: true });
  if (!stdout.includes('Depends:')) {
    await run(['apt-get', '-q', 'update'], { timeoutMs: 300_000 });
    ({ stdout } = await run(depends));
  }
  const names = stdout.split('\n').filter((line) => line === PACKAGE || /^lib[a-z0-9.+-]+$/.test(line));
  if (names.includes(PACKAGE)) return names;
  throw new Failure('tool_failed', `find the guest agent: apt knows no ${PACKAGE}`);
}

/** The loader itself says what it would load. */
async function neededFiles(unpacked: string): Promise<string[]> {
  const agent = join(unpacked, 'usr/sbin/qemu-ga');
  const loader = join(unpacked, LOADER);
  const paths = [join(unpacked, LIBRARIES), join(unpacked, 'usr', LIBRARIES)];
  const { stdout } = await run([loader, '--library-path', paths.join(':'), '--list', agent]);
  const libraries = [...stdout.matchAll(/=> (\/\S+)/g)].map(([, path]) => path!);
  return [agent, loader, ...libraries.filter((path) => basename(path) !== basename(LOADER))];
}

/**
 * The start hook: the script that libvirt runs before it starts a VM, put in its place and seen at work
 * (docs/fencing.md, section 4).
 *
 * Invariant (I7): it counts as working only after libvirt has refused to start something because of it. libvirt looks
 * for hooks when it starts and when it reloads its configuration, so a file that is there proves nothing.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { hasLibvirtCode, LibvirtCode, libvirtErrorIn } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { FenceStore } from './fence-store.ts';

export type StartHookOptions = {
  /** libvirt's directory of hooks; ours goes into `qemu.d` below it, beside whatever an owner keeps there. */
  hookDirectory: string;
  /** Holds the fence records, as libvirt sees it. */
  fenceDirectory: string;
  siteId: string;
  siteName: string;
};

export const HOOK_NAME = 'antipode';
const TEMPLATE = join(import.meta.dirname, 'start-hook.sh');
/** What the script says when it refuses; nothing else that fails a start says this. */
const REFUSAL = 'Antipode refuses to start VM';

/** The script for this host. */
export async function hookText(options: StartHookOptions): Promise<string> {
  const { fenceDirectory, siteId, siteName } = options;
  const values: Record<string, string> = { FENCE: fenceDirectory, SITE: siteId, SITE_NAME: siteName };
  const template = await readFile(TEMPLATE, 'utf8');
  return template.replaceAll(/@([A-Z_]+)@/g, (_, name: string) => quoted(values[name] ?? ''));
}

/** True when the script in place had to be written. Throws storage_io. */
export async function installHook(options: StartHookOptions): Promise<boolean> {
  const directory = join(options.hookDirectory, 'qemu.d');
  const path = join(directory, HOOK_NAME);
  const text = await hookText(options);
  try {
    if ((await readIfThere(path)) === text) return false;
    await mkdir(directory, { recursive: true, mode: 0o755 });
    // libvirt runs every executable of qemu.d, so the new script grows outside of it and is there as a whole or not.
    const beside = join(options.hookDirectory, `.${HOOK_NAME}.new`);
    await rm(beside, { force: true });
    {
      await using file = await open(beside, 'wx', 0o755);
      await file.writeFile(text);
      await file.chmod(0o755);
      await file.datasync();
    }
    await rename(beside, path);
    await using parent = await open(directory, 'r');
    await parent.sync();
    return true;
  } catch (error) {
    throw new Failure('storage_io', `put libvirt's start hook at ${path}`, { cause: error });
  }
}

/**
 * Whether libvirt refuses by the hook: tries to start a VM whose record says that it runs elsewhere. Its disk is not
 * there, so that it cannot start when nobody refuses.
 */
export async function isHookAtWork(
  libvirt: Libvirt,
  domainType: string,
  store: Pick<FenceStore, 'check'>,
): Promise<boolean> {
  const uuid = randomUUID();
  await using _record = await store.check(uuid);
  try {
    const domain = await libvirt.createDomain(probeXml(uuid, domainType), ['paused', 'autodestroy']);
    await domain.destroy();
    throw new Failure('libvirt_error', 'a VM whose disk is missing started');
  } catch (error) {
    if (libvirtErrorIn(error) === undefined) throw error;
    return hasLibvirtCode(error, LibvirtCode.hookScriptFailed) && String(error).includes(REFUSAL);
  }
}

function probeXml(uuid: string, domainType: string): string {
  return `<domain type="${domainType}">
  <name>antipode-start-check-${uuid.slice(0, 8)}</name>
  <uuid>${uuid}</uuid>
  <memory unit="MiB">16</memory>
  <os><type>hvm</type></os>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="raw"/>
      <source file="/nonexistent/antipode-start-check"/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <video><model type="none"/></video>
    <memballoon model="none"/>
  </devices>
</domain>`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

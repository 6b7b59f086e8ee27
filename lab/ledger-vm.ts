/** Ledger VMs in a site: two qcow2 disks, the guest image, and a definition that libvirt boots directly. */
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { keepCapabilities } from './capability-cache.ts';
import { run } from './command.ts';
import { ensureAgentImage } from './guest/agent-image.ts';
import { ensureGuestImage, type GuestImage } from './guest/image.ts';
import type { Site } from './site.ts';

export interface LedgerOptions {
  readonly name: string;
  /** Disk A, disk B, and any more that the ledger leaves alone. At least 1 MiB each. */
  readonly diskBytes?: readonly number[];
  /** Least time between two records. */
  readonly intervalMs?: number;
  /** Random 4 KiB writes a second to the second half of disk B. */
  readonly loadPerSecond?: number;
  /** Random bytes written to the second half of disk B after the boot. */
  readonly fillBytes?: number;
  readonly memoryMib?: number;
  /** QEMU's guest agent as Debian has it, in place of the few answers that the ledger gives itself. */
  readonly hasAgent?: boolean;
  /** An address with prefix length instead of one that the network gives. */
  readonly address?: string;
  readonly gateway?: string;
  /** Where it serves a page. */
  readonly httpPort?: number;
  /** An address that it pings every second. */
  readonly ping?: string;
  /** Leaves the VM defined and powered off. */
  readonly start?: boolean;
}

export const DISK_BYTES = 64 * 1024 * 1024;
const DISKS_MAX = 8;
const VM_NAME = /^[a-z0-9][a-z0-9_.-]{0,39}$/i;

/** The disks' paths, A first. They are the same inside and outside of the site. */
export function ledgerDiskPaths(site: Site, name: string, count = 2): string[] {
  return diskKeys(count).map((key) => join(site.diskDirectory, `${name}-${key}.qcow2`));
}

function diskKeys(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `vd${String.fromCodePoint(97 + index)}`);
}

/** Defines the VM and, unless told otherwise, starts it. Nothing stays of what could not be completed. */
export async function createLedger(site: Site, options: LedgerOptions): Promise<void> {
  const diskBytes = options.diskBytes ?? [DISK_BYTES, DISK_BYTES];
  checkOptions(options.name, diskBytes);
  const known = (await site.virsh(['list', '--all', '--name'])).split('\n');
  if (known.includes(options.name)) {
    throw new Failure('already_exists', `${site.name} already has a VM named ${options.name}`);
  }
  const image = options.hasAgent === true ? await ensureAgentImage() : await ensureGuestImage();
  const paths = ledgerDiskPaths(site, options.name, diskBytes.length);
  const taken = paths.find((path) => existsSync(path));
  if (taken !== undefined) throw new Failure('already_exists', `${taken} is already there`);
  const definition = join(site.directory, `${options.name}.xml`);
  try {
    for (const [index, path] of paths.entries()) {
      await run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, String(diskBytes[index])]);
    }
    await writeFile(definition, ledgerXml(options, paths, image));
    await site.virsh(['define', definition]);
  } catch (error) {
    for (const path of paths) await rm(path, { force: true });
    throw error;
  } finally {
    await rm(definition, { force: true });
  }
  if (options.start === false) return;
  await site.virsh(['start', options.name], { timeoutMs: 60_000 });
  await keepCapabilities(site);
}

function checkOptions(name: string, diskBytes: readonly number[]): void {
  if (!VM_NAME.test(name)) throw new Failure('usage_invalid', `"${name}" cannot be the name of a lab's VM`);
  if (diskBytes.length < 2 || diskBytes.length > DISKS_MAX) {
    throw new Failure('usage_invalid', `ledger has 2 to ${DISKS_MAX} disks, not ${diskBytes.length}`);
  }
  const small = diskBytes.find((bytes) => bytes < 1024 * 1024 || bytes % 4096 !== 0);
  if (small !== undefined) {
    throw new Failure(
      'usage_invalid',
      `a ledger's disk has 1 MiB or more, in 4 KiB steps, not ${small} bytes`,
    );
  }
}

/** Machine type and memory are those that always boot under TCG (design: microvm and 64 MiB do not). */
function ledgerXml(options: LedgerOptions, paths: readonly string[], image: GuestImage): string {
  const commandLine = [
    'console=ttyS0 quiet panic=-1',
    `ledger.interval=${options.intervalMs ?? 100}`,
    `ledger.load=${options.loadPerSecond ?? 0}`,
    `ledger.fill=${options.fillBytes ?? 0}`,
    ...networkWords(options),
  ].join(' ');
  const keys = diskKeys(paths.length);
  const disks = paths.map(
    (path, index) => `    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='${path}'/>
      <target dev='${keys[index]}' bus='virtio'/>
    </disk>`,
  );
  return `<domain type='qemu'>
  <name>${options.name}</name>
  <memory unit='MiB'>${options.memoryMib ?? 128}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>${image.kernel}</kernel>
    <initrd>${image.initrd}</initrd>
    <cmdline>${commandLine}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
${disks.join('\n')}
    <interface type='network'><source network='default'/><model type='virtio'/></interface>
    <serial type='pty'>
      <log file='/var/log/libvirt/qemu/${options.name}.serial.log' append='on'/>
      <target port='0'/>
    </serial>
    <console type='pty'><target type='serial' port='0'/></console>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <video><model type='vga'/></video>
    <graphics type='vnc' socket='/var/lib/libvirt/qemu/${options.name}.vnc'/>
    <memballoon model='none'/>
  </devices>
</domain>
`;
}

function networkWords({ address, gateway, httpPort, ping }: LedgerOptions): string[] {
  const words = { address, gateway, http: httpPort, ping };
  return Object.entries(words).flatMap(([name, value]) =>
    value === undefined ? [] : [`ledger.${name}=${value}`],
  );
}

/** The serial log of a VM, as a path outside the site. */
export function serialLog(site: Site, name: string): string {
  return join(site.directory, 'log', 'qemu', `${name}.serial.log`);
}

/**
 * Where the console of a VM that runs is logged, as a path outside the site; a recovered VM has its log beside its
 * disks. Undefined when it does not run or keeps no log.
 */
export async function consoleLog(site: Site, name: string): Promise<string | undefined> {
  const definition = await site.virsh(['dumpxml', name]);
  const inside = /<log file='([^']+)'/.exec(definition)?.[1];
  return inside?.replace('/var/log/libvirt/', `${join(site.directory, 'log')}/`);
}

/** Resolves with the first match of `pattern` in what the file holds from `offset` on. */
export async function waitForText(
  path: string,
  pattern: RegExp,
  options: { offset?: number; timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<RegExpExecArray> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const end = systemClock.monotonicMs() + timeoutMs;
  while (true) {
    const text = existsSync(path) ? (await readFile(path, 'latin1')).slice(options.offset ?? 0) : '';
    const match = pattern.exec(text);
    if (match !== null) return match;
    if (systemClock.monotonicMs() > end) {
      const last = text.trim().slice(-300);
      throw new Failure(
        'timeout',
        `${path} did not show ${pattern} within ${timeoutMs} ms; it ends: ${last}`,
      );
    }
    await systemClock.sleep(20, options.signal);
  }
}

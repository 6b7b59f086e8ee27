/** Looks at a host of VMs. Starts nothing and changes nothing. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { modeOf, outputOf, textIfThere } from './gather-shared.ts';
import type {
  AppArmorFacts,
  HookFacts,
  KvmFacts,
  LibvirtdLimits,
  LibvirtFacts,
  ToolFacts,
} from './judge-host.ts';

const QEMU_CONF = '/etc/libvirt/qemu.conf';
const CALL_TIMEOUT_MS = 4000;
const APPARMOR = '/etc/apparmor.d';
/** What the package of the agent brings; a line of the administrator's file includes it. */
const OWN_RULES = 'antipode-libvirt-qemu';
const HOOK_SIGN = "libvirt's hook of Antipode";

export async function gatherLibvirt(socketPath: string, signal: AbortSignal): Promise<LibvirtFacts> {
  await using libvirt = await Libvirt.connect({
    socketPath,
    callTimeoutMs: CALL_TIMEOUT_MS,
    keepalive: false,
    signal,
  });
  return {
    libvirt: await libvirt.getLibvirtVersion({ signal }),
    qemu: await libvirt.getHypervisorVersion({ signal }),
  };
}

export async function gatherTool(name: string, signal: AbortSignal): Promise<ToolFacts> {
  const flag = name === 'ip' ? '-V' : '--version';
  const text = await outputOf(name, [flag], signal);
  return { version: text?.split('\n')[0]?.trim() };
}

export async function gatherKvm(): Promise<KvmFacts> {
  const flags = (await textIfThere('/proc/cpuinfo')) ?? '';
  const user = valueOf(await confIfReadable(QEMU_CONF), 'user') ?? 'libvirt-qemu';
  const groupLines = ((await textIfThere('/etc/group')) ?? '').split('\n').map((line) => line.split(':'));
  const ownId = userLine((await textIfThere('/etc/passwd')) ?? '', user)?.[3];
  const own = groupLines.filter(([, , id, members]) => {
    return id === ownId || members?.split(',').includes(user) === true;
  });
  const groups = own.map(([name]) => name ?? '');
  const hasExtension = /^flags\s*:.*\b(vmx|svm)\b/m.test(flags);
  try {
    const { gid, mode } = await stat('/dev/kvm');
    const group = groupLines.find(([, , id]) => Number(id) === gid)?.[0] ?? String(gid);
    return { hasExtension, device: { mode, group }, user, groups };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return { hasExtension, device: undefined, user, groups };
  }
}

function userLine(passwd: string, user: string): string[] | undefined {
  return passwd
    .split('\n')
    .map((line) => line.split(':'))
    .find(([name]) => name === user);
}

export async function gatherHook(hookDirectory: string): Promise<HookFacts> {
  const path = join(hookDirectory, 'qemu.d', 'antipode');
  const text = await textIfThere(path);
  return { path, mode: await modeOf(path), isOurs: text?.includes(HOOK_SIGN) === true };
}

export async function gatherAppArmor(): Promise<AppArmorFacts> {
  const enabled = await textIfThere('/sys/module/apparmor/parameters/enabled');
  const isEnabled = enabled?.trim() === 'Y';
  const driver = valueOf(await confIfReadable(QEMU_CONF), 'security_driver');
  const more = join(APPARMOR, 'abstractions', 'libvirt-qemu.d');
  const local = join(APPARMOR, 'local', 'abstractions', 'libvirt-qemu');
  const own = (await textIfThere(local))?.includes(`<abstractions/${OWN_RULES}>`) === true;
  const files = [
    local,
    ...(own ? [join(APPARMOR, 'abstractions', OWN_RULES)] : []),
    ...(await namesIn(more)).map((name) => join(more, name)),
  ];
  const rules = await Promise.all(files.map(async (path) => (await textIfThere(path)) ?? ''));
  return { isEnabled, driver, rules: rules.join('\n').replaceAll(/^\s*#.*$/gm, '') };
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).slice(0, 100);
  } catch {
    return [];
  }
}

export async function gatherLibvirtdLimits(): Promise<LibvirtdLimits> {
  const requests = valueOf(await confIfReadable('/etc/libvirt/libvirtd.conf'), 'max_client_requests');
  const pid = (await textIfThere('/run/libvirtd.pid'))?.trim();
  const limits = pid === undefined ? undefined : await textIfThere(`/proc/${pid}/limits`);
  const openFiles = /^Max open files\s+(\d+)/m.exec(limits ?? '')?.[1];
  return {
    clientRequests: requests === undefined ? undefined : Number(requests),
    openFiles: openFiles === undefined ? undefined : Number(openFiles),
  };
}

/** Readable by root alone on most systems: for others it says nothing. */
async function confIfReadable(path: string): Promise<string> {
  try {
    return (await textIfThere(path)) ?? '';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return '';
    throw error;
  }
}

/** Of a file of libvirt's configuration: `name = value`, quoted or not. */
export function valueOf(conf: string, name: string): string | undefined {
  const line = new RegExp(`^\\s*${name}\\s*=\\s*"?([^"\\n]*?)"?\\s*$`, 'm').exec(conf);
  return line?.[1];
}

/**
 * Brings the screen of a VM that a recovery brought up here to the manager, for somebody's browser: from the Unix
 * socket that libvirt made for its display, over a connection that this agent opens. Nothing listens for it.
 *
 * Invariant: at most what the two sockets hold is buffered: a slow reader makes QEMU wait, which then draws less often.
 */
import type { Duplex } from 'node:stream';
import type { ConsoleTask } from '#/control/console-task.ts';
import { Failure } from '#/lib/failure.ts';
import { joinUntilClosed } from '#/lib/join-streams.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { connectUnixSocket } from '#/libvirt/unix-socket.ts';
import { attributeOf, childOf, childrenOf, parseXml } from '#/libvirt/xml.ts';
import { readMark } from './definitions.ts';

export type OpenLink = (task: ConsoleTask, signal: AbortSignal) => Promise<Duplex>;

/** Resolves when either end has closed. Throws not_found, conflict, vm_unsupported, and as opening the link does. */
export async function runConsole(
  task: ConsoleTask,
  { libvirt, openLink }: { libvirt: Libvirt; openLink: OpenLink },
  signal: AbortSignal,
): Promise<Record<string, never>> {
  const display = await connectDisplay(await displayOf(task, libvirt), signal);
  try {
    const link = await openLink(task, signal);
    await joinUntilClosed(display, link, signal);
  } finally {
    display.destroy();
  }
  return {};
}

/** The path of its socket. */
async function displayOf({ recover_task_id: id }: ConsoleTask, libvirt: Libvirt): Promise<string> {
  for (const domain of await libvirt.listDomains()) {
    const xml = await domain.getXml();
    if (readMark(xml)?.taskId !== id) continue;
    await requireRunning(domain);
    return displaySocketIn(xml, domain.name);
  }
  throw new Failure('not_found', `open a console: no VM of recovery ${id} is on this host`);
}

async function requireRunning(domain: Domain): Promise<void> {
  const { state } = await domain.getState();
  if (state !== 'shutoff' && state !== 'crashed') return;
  throw new Failure('conflict', `VM ${domain.name} does not run: it is ${state}`, {
    hint: 'Start it; a VM that is off has no screen.',
  });
}

/** In the definition of a running VM. Throws vm_unsupported. */
export function displaySocketIn(definition: string, name: string): string {
  const devices = childOf(parseXml(definition, `the definition of VM ${name}`, 'domain'), 'devices');
  const displays = devices === undefined ? [] : childrenOf(devices, 'graphics');
  const vnc = displays.find((display) => display.getAttribute('type') === 'vnc');
  const listen = vnc === undefined ? undefined : childOf(vnc, 'listen');
  const path = attributeOf(vnc, 'socket') ?? attributeOf(listen, 'socket');
  if (path !== undefined) return path;
  throw vnc === undefined
    ? new Failure('vm_unsupported', `VM ${name} has no screen: its definition has no VNC display`, {
        hint: 'Use its serial console, or give it a graphics card where it is protected.',
      })
    : new Failure('vm_unsupported', `the display of VM ${name} is on no Unix socket`, {
        hint: 'It was started by an older version, or changed since; it has one after its next recovery.',
      });
}

/** As it is no trouble of libvirt's connection, the task is not repeated for it. */
async function connectDisplay(path: string, signal: AbortSignal): Promise<Duplex> {
  try {
    return await connectUnixSocket(path, signal);
  } catch (cause) {
    throw new Failure('tool_failed', `connect to the display at ${path}`, { cause });
  }
}

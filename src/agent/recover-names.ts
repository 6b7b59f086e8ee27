/** Names that follow from a recovery task alone, so that a repeated step finds what an earlier try made. Pure. */
import { createHash } from 'node:crypto';
import type { RecoverTask } from '#/control/orders.ts';

/** With the task's id this stays below the 255 bytes of a file's name. */
const NAME_LENGTH_MAX = 100;

/** Where the recovered VM's disks lie: readable for people, unique by the task. */
export function taskDirectory(task: RecoverTask): string {
  const name = task.name
    .replaceAll(/[^A-Za-z0-9._-]/g, '_')
    .replace(/^\.+/, '_')
    .slice(0, NAME_LENGTH_MAX);
  return `${task.storage_path}/${name}-${task.id}`;
}

/** Where libvirt keeps what the guest says on its serial port while nobody listens. */
export function consoleLogPath(directory: string): string {
  return `${directory}/console.log`;
}

/** A test's own UUID, the same at every try: a version 8 UUID (RFC 9562, section 5.8) from the task's id. */
export function taskUuid(taskId: string): string {
  const hex = createHash('sha256').update(`antipode task ${taskId}`).digest('hex');
  const variant = ((Number.parseInt(hex[16]!, 16) & 0x3) | 0x8).toString(16);
  const third = `8${hex.slice(13, 16)}`;
  const fourth = `${variant}${hex.slice(17, 20)}`;
  return [hex.slice(0, 8), hex.slice(8, 12), third, fourth, hex.slice(20, 32)].join('-');
}

/** Ten hex digits that stand for the task where names are short, as those of bridges are. */
export function taskTag(taskId: string): string {
  return tag(`antipode task ${taskId}`);
}

/** The same for what the tests of a tag share, for a network of this host or for all. */
export function sharedTag(ofTests: string, network: string): string {
  return tag(`antipode test network ${ofTests} ${network}`);
}

function tag(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 10);
}

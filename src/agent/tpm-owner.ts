/**
 * Whom libvirt runs software TPMs as: `swtpm_user` and `swtpm_group` of its qemu.conf, `tss` when it does not say, and
 * root where there is no such user; as libvirt itself decides.
 */
import { readFile } from 'node:fs/promises';

export type FileOwner = { uid: number; gid: number };

const QEMU_CONF = '/etc/libvirt/qemu.conf';
const DEFAULT_NAME = 'tss';

export async function tpmOwner(): Promise<FileOwner> {
  const [conf, passwd, group] = await Promise.all([
    textOrNothing(QEMU_CONF),
    textOrNothing('/etc/passwd'),
    textOrNothing('/etc/group'),
  ]);
  return ownerIn({ conf, passwd, group });
}

/** From the texts of the three files. */
export function ownerIn(files: { conf: string; passwd: string; group: string }): FileOwner {
  return {
    uid: idOf(settingIn(files.conf, 'swtpm_user'), files.passwd),
    gid: idOf(settingIn(files.conf, 'swtpm_group'), files.group),
  };
}

function settingIn(conf: string, key: string): string {
  return new RegExp(`^[ \\t]*${key}[ \\t]*=[ \\t]*["']?([^"'\\s]+)`, 'm').exec(conf)?.[1] ?? DEFAULT_NAME;
}

/** A number, also as `+1000`, or a name in the database. */
function idOf(name: string, database: string): number {
  const number = /^\+?(\d{1,10})$/.exec(name)?.[1];
  if (number !== undefined) return Number(number);
  const row = database.split('\n').find((line) => line.startsWith(`${name}:`));
  return Number(row?.split(':')[2] ?? 0);
}

async function textOrNothing(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error) return '';
    throw error;
  }
}

/**
 * Whom this host's libvirt runs QEMU as: `user` of its qemu.conf, or else the name that distributions give it. Served
 * recovery points are for that user alone: a Unix socket lets in who may write to it.
 */
import { readFile } from 'node:fs/promises';

const QEMU_CONF = '/etc/libvirt/qemu.conf';
/** Debian's and its descendants', and Red Hat's and its. */
const USUAL_NAMES = ['libvirt-qemu', 'qemu'];

/** The user's number; undefined when this host has no such user, and so no QEMU of libvirt's. */
export async function qemuUser(): Promise<number | undefined> {
  const [conf, passwd] = await Promise.all([textOrNothing(QEMU_CONF), textOrNothing('/etc/passwd')]);
  return userIn(conf, passwd);
}

/** From the texts of qemu.conf and of the user database. */
export function userIn(conf: string, passwd: string): number | undefined {
  const configured = /^[ \t]*user[ \t]*=[ \t]*["']?([^"'\s]+)/m.exec(conf)?.[1];
  const number = /^\+?(\d{1,10})$/.exec(configured ?? '')?.[1];
  if (number !== undefined) return Number(number);
  for (const name of configured === undefined ? USUAL_NAMES : [configured]) {
    const row = passwd.split('\n').find((line) => line.startsWith(`${name}:`));
    if (row !== undefined) return Number(row.split(':')[2]);
  }
  return undefined;
}

async function textOrNothing(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error) return '';
    throw error;
  }
}

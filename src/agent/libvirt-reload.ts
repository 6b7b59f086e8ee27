/**
 * Asks libvirt's daemon to read its configuration again, as `systemctl reload libvirtd` does: that is when it looks for
 * hooks. VMs, connections and jobs go on.
 *
 * The daemon is found by its pid file, and is only signalled when it is one of libvirt's in our own mount namespace: a
 * pid file of another world, or of a daemon that is gone, must not end somebody else's process.
 */
import { readFile, readlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const DAEMONS = ['libvirtd', 'virtqemud'];

/** True when a daemon was told. */
export async function reloadLibvirt(socketPath: string): Promise<boolean> {
  const beside = dirname(socketPath);
  const directories = beside === '/run/libvirt' ? [beside, '/run'] : [beside];
  for (const directory of directories) {
    for (const name of DAEMONS) {
      const pid = await pidIn(join(directory, `${name}.pid`));
      if (pid === undefined || !(await isOurs(pid, name))) continue;
      process.kill(pid, 'SIGHUP');
      return true;
    }
  }
  return false;
}

async function pidIn(path: string): Promise<number | undefined> {
  const text = await readFile(path, 'latin1').catch(() => '');
  const pid = Number(text.trim());
  return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
}

async function isOurs(pid: number, name: string): Promise<boolean> {
  try {
    const [comm, theirs, ours] = await Promise.all([
      readFile(`/proc/${pid}/comm`, 'latin1'),
      readlink(`/proc/${pid}/ns/mnt`),
      readlink('/proc/self/ns/mnt'),
    ]);
    return comm.trim() === name && theirs === ours;
  } catch {
    // It is gone, or it is not for us to look at.
    return false;
  }
}

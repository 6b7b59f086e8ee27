/**
 * Which machine a program runs on, so that a manager knows what is on the same one: a view of a recovery point is
 * served on a Unix socket, which reaches no further.
 *
 * systemd's machine id is confidential and must not leave the machine as it is (machine-id(5)): what is told is a hash
 * of it with a purpose of our own. A machine without one has its host name instead.
 */
import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';

/** 32 hex digits, the same for all programs of a machine. */
export async function machineIdentity(path = '/etc/machine-id'): Promise<string> {
  const id = await readFile(path, 'latin1').catch(() => '');
  const own = /^[0-9a-f]{32}\s*$/.test(id) ? id.trim() : `host ${hostname()}`;
  return hash('sha256', `antipode machine ${own}`).slice(0, 32);
}
